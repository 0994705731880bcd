package cluster

import (
	"fmt"
	"strings"

	"github.com/gorm-replicated/replicated/internal/position"
)

// diverged is how the reason begins why a slave is not read that has transactions of its own.
const diverged = "has diverged: "

// disowned returns why s, a slave that answers, must not be read because it is no slave of the masters of
// this group, or no longer; "" if nothing is known against it. before is what it returned last for s, "" at
// first.
//
//   - It is the master: a master that answers is the same server. Its address leads there since a
//     failover, or the application has the master among the slaves.
//   - It has diverged: it takes writes, and has transactions of its own that the masters, all of them
//     together, do not have (see [position.Errant]). So it has what the master never had: the question
//     how far behind it is has no answer.
//
// A slave that refuses writes is never said to have diverged. What its administrator does there (ANALYZE
// TABLE, an account for monitoring) is a transaction of its own as well, and hardly a server is without. A
// writable slave is one where something can go astray. It is warned of anyway, and read_only=ON makes it
// count again.
//
// It does not matter in which order slave and master were asked, as with lag. What a slave has written
// itself the master either never has, or has had since before it was the master.
//
// While a master does not answer, nothing new is found. What it had last says nothing of what is written to
// a slave that has been promoted in its place. Such a slave goes on being read, as all slaves are while the
// master is away, until the master's address leads to it. What was found before stays, or the outage of the
// master would bring back slaves that must not be read. There is one exception: a server is not the master
// for an address that does not answer. A master counts as answering until it has failed to as often as a
// slave may: one lost question must not make slaves come and go.
func (p *picture) disowned(s *slave, before string) string {
	for _, m := range p.masters {
		if m.tells() && m.reading.Identity != "" && m.reading.Identity == s.reading.Identity {
			return fmt.Sprintf("is the master: the same server as %s", m.server.ID)
		}
	}
	if !s.reading.Writable || !s.reading.Own.Known() {
		return ""
	}
	masters := make([]position.Reading, 0, len(p.masters))
	for _, m := range p.masters {
		if !m.tells() {
			if strings.HasPrefix(before, diverged) {
				return before
			}
			return ""
		}
		masters = append(masters, m.reading)
	}
	errant := position.Errant(s.reading.Own, masters...)
	if !errant.Known() {
		return ""
	}
	return fmt.Sprintf("%sit takes writes, and has transactions of its own (%s)", diverged, brief(errant))
}

// brief returns the beginning of what may be long: a set with gaps.
func brief(p position.Position) string {
	const most = 100 // bytes
	text := p.String()
	if len(text) > most {
		text = text[:most] + "…"
	}
	return text
}
