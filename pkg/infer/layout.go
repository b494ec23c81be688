package infer

// A block looks Reach pixels around each pixel it computes. A tile is therefore
// a core, which is kept, inside a window, which is computed: the core and Reach
// pixels more on every side, less where the image ends, so that what the block
// does at a window's side is either the image's own border treatment or thrown
// away. All windows of a layout have one size, so that one graph serves them
// all: a window that would stick out of the image is pushed inwards instead.

// span is a tile along one axis: the window [win, win+window) and the core
// [lo, hi) inside it.
type span struct{ win, lo, hi int }

// axis is how one side of an image is covered by tiles: the cores cover [0, n)
// once, windows have equal lengths and start at multiples of the alignment.
type axis struct {
	window int
	spans  []span
}

// roundUp returns the smallest multiple of m that is at least n.
func roundUp(n, m int) int { return (n + m - 1) / m * m }

// split covers [0, n) with cores of at most tile pixels (rounded up to align;
// the first and the last reach to the border and are larger by reach, since
// they need no halo there).
//
// Invariants: win is a multiple of align; lo is; lo-win >= reach or win == 0;
// win+window-hi >= reach or win+window == n; n-window is a multiple of align.
func split(n, tile, reach, align int) axis {
	reach, tile = roundUp(reach, align), roundUp(max(tile, 1), align)
	inner := n - 2*reach // covered by tile after tile; the margins come with the first and the last
	if inner <= tile {
		return axis{window: n, spans: []span{{0, 0, n}}}
	}
	k := (inner + tile - 1) / tile
	tile = roundUp((inner+k-1)/k, align) // even sizes
	k = (inner + tile - 1) / tile
	if k == 1 {
		return axis{window: n, spans: []span{{0, 0, n}}}
	}
	window := tile + 2*reach
	window += (n - window) % align // so that the last window ends with the image
	a := axis{window: window, spans: make([]span, k)}
	for i := range a.spans {
		a.spans[i] = span{
			win: min(i*tile, n-window),
			lo:  reach + i*tile,
			hi:  reach + (i+1)*tile,
		}
	}
	a.spans[0].lo = 0
	a.spans[k-1].hi = n
	return a
}

// layout is the tiles of one block over an image of h x w pixels.
type layout struct{ y, x axis }

// tiles returns the number of tiles.
func (l layout) tiles() int { return len(l.y.spans) * len(l.x.spans) }

// tile returns the rows and the columns of tile i, row by row.
func (l layout) tile(i int) (rows, cols span) {
	k := len(l.x.spans)
	return l.y.spans[i/k], l.x.spans[i%k]
}

// pixels returns the number of pixels of a window.
func (l layout) pixels() int { return l.y.window * l.x.window }

// rounds returns how many tiles the busiest of the workers computes.
func (l layout) rounds(workers int) int { return (l.tiles() + workers - 1) / workers }

// cost estimates the time of a layout in pixels computed by the busiest of the
// workers. The first window of each counts for more: its memory is new. So do
// all windows a little, lest an image be cut to pieces for nothing.
func (l layout) cost(workers int) int {
	return l.rounds(workers)*(l.pixels()+2048) + l.pixels()/2
}

// bestLayout returns the layout that takes the least time for the given number
// of workers among those whose windows have at most maxPixels pixels; where
// even the smallest tiles have larger windows, the one of the smallest windows.
func bestLayout(h, w, reach, align, workers, maxPixels int) layout {
	ys, xs := choices(h, reach, align), choices(w, reach, align)
	var best layout
	var bestCost int
	found := false
	for _, y := range ys {
		for _, x := range xs {
			l := layout{y, x}
			fits := l.pixels() <= maxPixels
			cost := l.cost(workers)
			if !fits {
				cost = l.pixels()
			}
			// A layout that fits beats any that does not.
			if best.tiles() == 0 || fits && !found || fits == found && cost < bestCost {
				best, bestCost, found = l, cost, fits
			}
		}
	}
	return best
}

// choices returns the ways to split a side, the whole first, down to cores of
// minTile pixels.
func choices(n, reach, align int) []axis {
	var as []axis
	for k := 1; ; k++ {
		inner := n - 2*roundUp(reach, align)
		tile := max((inner+k-1)/k, 1)
		if k > 1 && tile < minTile {
			return as
		}
		a := split(n, tile, reach, align)
		if len(as) == 0 || len(a.spans) > len(as[len(as)-1].spans) {
			as = append(as, a)
		}
		if inner <= minTile {
			return as
		}
	}
}

// minTile is the smallest core, in pixels, that is chosen where the caller asks
// for none.
const minTile = 32

// maxWindow is the largest window, in pixels, that is chosen where the caller
// asks for no tile.
const maxWindow = 1 << 20
