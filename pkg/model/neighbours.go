package model

// Neighbours returns the neighbours of a pixel of which each pair (o, -o)
// appears once: what the graphs of a network with this resolved configuration
// are built on, see graph.NewGrid.
func (c Config) Neighbours() []Offset { return c.forwardOffsets() }
