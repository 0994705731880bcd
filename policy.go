package replicated

import "gorm.io/plugin/dbresolver"

// leastLatency is LeastLatency: the plugin chooses by what it measures.
type leastLatency struct{ dbresolver.RandomPolicy }

// LeastLatency returns a policy that prefers the slave whose reads are answered sooner. It compares two
// random slaves by their latency and their reads in flight, and takes the better one ("power of two
// choices": Mitzenmacher, 2001). The latency is the time until the first row, as an average that decays
// within seconds. A slave that is turned down for long gets one read a second at most, so that the plugin
// notices when it has become faster. [Server].Weight counts.
//
// The policy is for Config.Policy and Group.Policy, and one value may serve several groups. Outside of this
// plugin it is dbresolver.RandomPolicy.
func LeastLatency() dbresolver.Policy { return leastLatency{} }
