package cluster

// told is what those that Monitoring names were told of a slave.
type told struct {
	added    bool // it has come since the start, and nothing was told of it yet
	in       bool // Notice: it is in the view
	writable bool // Writable
}

// noteNews notes what there is to tell of a view. The monitor's goroutine tells it, without the lock.
func (m *monitor) noteNews(v *View) {
	m.noteLack()
	for i, master := range m.picture.masters {
		m.noteChange(&master.told, v.Masters[i].Up, v.Masters[i])
	}
	for i, s := range m.picture.slaves {
		m.noteSlave(s, v.All[i])
	}
}

// noteLack is for the first time that it is known that the group has no positions.
func (m *monitor) noteLack() {
	if m.lacks {
		return
	}
	if w := m.picture.lacking(); w != nil {
		m.lacks = true
		if reading := w.reading; m.cfg.NoPositions != nil {
			m.news = append(m.news, func() { m.cfg.NoPositions(w.server, reading.Reason, reading.Remedy) })
		}
	}
}

func (m *monitor) noteSlave(s *slave, state State) {
	if s.told.added {
		if !state.Readable && !state.Life.out() {
			return // it has not had the time to answer
		}
		s.told.added, s.told.in = false, !state.Readable
	}
	m.noteChange(&s.told.in, state.Readable, state)
	if state.Writable && !s.told.writable && m.cfg.Writable != nil {
		s.told.writable = true
		m.news = append(m.news, func() { m.cfg.Writable(s.server) })
	}
}

// noteChange is for a server that is in service now, or not, if something else was told before.
func (m *monitor) noteChange(told *bool, in bool, state State) {
	if in != *told && m.cfg.Notice != nil {
		m.news = append(m.news, func() { m.cfg.Notice(state.Server, in, state.Reason, state.Remedy) })
	}
	*told = in
}
