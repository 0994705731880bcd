package replicated

import "gorm.io/plugin/dbresolver"

// leastLatency is LeastLatency: the plugin chooses by what it measures.
type leastLatency struct{ dbresolver.RandomPolicy }

// LeastLatency returns a policy that prefers the slave whose reads are answered sooner: of two random ones
// that by latency and reads in flight ("power of two choices": Mitzenmacher, 2001). The latency is that
// until the first row, as an average that decays within seconds. A slave that is turned down for long gets
// a read now and then, one in a second at most, so that it is noticed when it has become faster.
// [Server].Weight counts.
//
// It is for Config.Policy and Group.Policy, and may be used for several groups. Outside of this plugin it
// is dbresolver.RandomPolicy.
func LeastLatency() dbresolver.Policy { return leastLatency{} }
