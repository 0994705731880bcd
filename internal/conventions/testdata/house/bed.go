package house

type bed struct{ size int }

func (d *Door) lean(r room) {
	size := 1
	_ = size + len(r.beds)
}
