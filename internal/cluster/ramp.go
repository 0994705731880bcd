package cluster

import "time"

// A slave that comes back is cold: its caches are empty, and whoever waited for it comes at once. So it gets
// more of its share of reads from moment to moment. With rampUp 5 s and firstShare 10%, of two slaves that
// would get 500 reads per second each, the one that comes back gets
//
//	at once     10%    50 reads per second
//	after 1 s   28%   140
//	after 3 s   64%   320
//	after 5 s  100%   500
const (
	rampUp     = 5 * time.Second
	firstShare = 0.1
)

// share is the part of its share that a slave gets which came back this long ago.
func share(back time.Duration) float64 {
	return min(1, firstShare+(1-firstShare)*float64(back)/float64(rampUp))
}

// Share returns what part of its share of reads a slave should get: less than 1 for a while after it came
// back.
func (s *Server) Share(now time.Time) float64 {
	state := s.State()
	if state == nil || state.returned.IsZero() {
		return 1
	}
	if back := now.Sub(state.returned); back >= 0 {
		return share(back)
	}
	return 1 // the clock was set back
}

// CameBackAlone tells whether no other slave was read when it came back: then the master has had its reads
// until then.
func (s *Server) CameBackAlone() bool {
	state := s.State()
	return state != nil && state.alone
}
