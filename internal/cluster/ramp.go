package cluster

import (
	"time"
)

// Share returns what part of its share of reads a slave should get: less than 1 for a while after it came back.
func (s *Server) Share(now time.Time) float64 {
	back := time.Duration(now.UnixNano() - s.returned.Load())
	if back < 0 { // the clock was set back
		return 1
	}
	return share(back)
}

// CameBackAlone tells whether no other slave was read when it came back: then the master has had its reads until then.
func (s *Server) CameBackAlone() bool { return s.alone.Load() }

// share is the part of its share that a slave gets which came back this long ago.
func share(back time.Duration) float64 {
	return min(1, firstShare+(1-firstShare)*float64(back)/float64(rampUp))
}
