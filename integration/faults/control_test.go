package faults_test

import (
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/plugin/dbresolver"
)

// control opens the servers of an application once more, as people do who have dbresolver and not the plugin.
func (a *app) control(t *testing.T) *gorm.DB {
	t.Helper()
	e := a.engine
	db, err := gorm.Open(e.dial(a.master.dsn()), &gorm.Config{Logger: logger.Discard})
	must(t, err)
	cfg := dbresolver.Config{}
	for _, n := range a.slaves[:2] {
		cfg.Replicas = append(cfg.Replicas, e.dial(n.dsn()))
	}
	resolver := dbresolver.Register(cfg)
	must(t, db.Use(resolver))
	query, row := db.Callback().Query(), db.Callback().Row()
	must(t, query.Before("gorm:query").After("gorm:db_resolver").Register("faults:query", handing))
	must(t, row.Before("gorm:row").After("gorm:db_resolver").Register("faults:row", handing))
	resolver.SetMaxOpenConns(connections).SetMaxIdleConns(connections)
	t.Cleanup(func() {
		closing := func(pool gorm.ConnPool) error {
			if c, ok := pool.(interface{ Close() error }); ok {
				_ = c.Close()
			}
			return nil
		}
		_ = resolver.Call(closing)
		if master, err := db.DB(); err == nil {
			_ = master.Close()
		}
	})
	return db
}
