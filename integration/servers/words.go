package servers

import "strings"

// Statements about replication are written in MariaDB's words, which MySQL has given up: SLAVE and MASTER.
// Here, and nowhere else, are MySQL's: REPLICA and SOURCE.

// Words returns a statement about replication, or the names of its settings, in the words of the server.
func (s *Server) Words(statement string) string { return s.cluster.engine.words(statement) }

// mySQLWords has the words of MySQL 8.0.26 and later.
var mySQLWords = strings.NewReplacer(
	"STOP SLAVE", "STOP REPLICA",
	"START SLAVE", "START REPLICA",
	"RESET SLAVE", "RESET REPLICA",
	"SHOW SLAVE STATUS", "SHOW REPLICA STATUS",
	"slave_parallel_threads", "replica_parallel_workers",
	"slave_preserve_commit_order", "replica_preserve_commit_order",
	"CHANGE MASTER TO", "CHANGE REPLICATION SOURCE TO",
	"MASTER_HOST", "SOURCE_HOST",
	"MASTER_PORT", "SOURCE_PORT",
	// Accounts have caching_sha2_password. Without TLS a password is encrypted with a key that the server
	// hands out.
	"MASTER_USER", "GET_SOURCE_PUBLIC_KEY=1, SOURCE_USER",
	"MASTER_PASSWORD", "SOURCE_PASSWORD",
	// MariaDB tries as often by default.
	"MASTER_CONNECT_RETRY", "SOURCE_RETRY_COUNT=86400, SOURCE_CONNECT_RETRY",
	"MASTER_AUTO_POSITION", "SOURCE_AUTO_POSITION",
	"MASTER_LOG_FILE", "SOURCE_LOG_FILE",
	"MASTER_LOG_POS", "SOURCE_LOG_POS",
	"MASTER_DELAY", "SOURCE_DELAY",
)

// mySQLLogWords has those that came with MySQL 8.2. The others went with 8.4.
var mySQLLogWords = strings.NewReplacer(
	"SHOW MASTER STATUS", "SHOW BINARY LOG STATUS",
	"RESET MASTER", "RESET BINARY LOGS AND GTIDS",
)

// slaveColumns has the columns of MySQL's SHOW REPLICA STATUS by the names of SHOW SLAVE STATUS.
var slaveColumns = strings.NewReplacer("Replica_", "Slave_", "Source_", "Master_")
