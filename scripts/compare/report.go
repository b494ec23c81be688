package main

import "context"

func (s *settings) report(context.Context) error { return nil }
