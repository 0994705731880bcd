// Package cluster opens the servers of one group, watches them, and publishes the view of them that routing
// reads. It knows nothing of requests.
//
//	      Open (open.go)                      Cluster (cluster.go)
//	           │ makes                                │ Watch
//	           ▼                                      ▼
//	Server (server.go) ◄─ connection ◄─ probe ◄─── monitor: when to ask?
//	 ▲              one of its own   a question     (monitor.go, round.go, pace.go)
//	 │              to ask over      at a time        │ answers
//	 │                                                ▼
//	 │    ring: fresh as of when? ──────────┐      picture: what is known of all
//	 │    ahead, disowned: of this history? ├────► (picture.go, watched.go)
//	 │    life, recovery: does it answer? ──┘         │ readable.go: may it be read?
//	 │                                                ▼
//	 └── State, View (view.go) ◄───────────────── publish ──► news: who wants to be told
//	       what is so, until when (hold.go)
//
// Routing takes a server out of the View, or has [PickLeast] choose (pick.go, load.go). A slave that has just
// come back gets less than its share (ramp.go).
//
// When a statement fails, [Server.PlaceOf] knows whether there was a connection (connector.go), errors.go
// what the error is about, and [Judge] whose fault it is. What it cannot tell alone the server is asked
// ([Cluster.Serves], [Cluster.Answers]: ask.go). [Describe] says it in words that hold no secret.
package cluster
