// Package house is made up: in an order of door.go, room.go, bed.go, some of what it uses runs up.
package house

import "context"

type Door struct {
	room
	width int
}

func (d *Door) Open(ctx context.Context) { d.enter(ctx) }

func knock[T any](T) {}
