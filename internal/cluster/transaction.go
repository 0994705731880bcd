package cluster

import (
	"context"
	"database/sql"

	"gorm.io/gorm"
)

// BeginTx begins a transaction. It returns gorm.ErrInvalidTransaction if the pool has no transactions.
func BeginTx(ctx context.Context, pool gorm.ConnPool, opts *sql.TxOptions) (gorm.ConnPool, error) {
	switch beginner := pool.(type) {
	case gorm.TxBeginner:
		return beginner.BeginTx(ctx, opts)
	case gorm.ConnPoolBeginner:
		return beginner.BeginTx(ctx, opts)
	}
	return nil, gorm.ErrInvalidTransaction
}
