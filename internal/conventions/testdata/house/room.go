package house

import "context"

type room struct{ beds []bed }

func (r room) enter(ctx context.Context) {
	var d Door
	d.width++
	knock(d.Open)
	_ = r.beds[0].size
	_ = ctx.Err()
}
