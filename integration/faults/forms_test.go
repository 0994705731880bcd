package faults_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"
)

// form is a way to read.
type form struct {
	name string
	read func(*gorm.DB, *trail) error
}

const byID = "SELECT text FROM items WHERE id = ?"

var forms = []form{
	{"Find", func(db *gorm.DB, _ *trail) error {
		var found []Item
		err := db.Limit(5).Find(&found).Error
		return several(len(found), err)
	}},
	{"First", func(db *gorm.DB, _ *trail) error { return db.First(&Item{}, 7).Error }},
	{"Raw and Scan", func(db *gorm.DB, _ *trail) error {
		var text string
		return one(&text, db.Raw(byID, 7).Scan(&text).Error)
	}},
	{"Row", func(db *gorm.DB, _ *trail) error {
		var text string
		return one(&text, scan(db.Raw(byID, 7).Row(), &text))
	}},
	{"Rows", func(db *gorm.DB, _ *trail) error { return readRows(db, 20) }},
	{"Find, prepared", func(db *gorm.DB, _ *trail) error {
		var found []Item
		err := db.Session(&gorm.Session{PrepareStmt: true}).Where("id > ?", 10).Limit(5).Find(&found).Error
		return several(len(found), err)
	}},
	{"Row, prepared", func(db *gorm.DB, _ *trail) error {
		var text string
		return one(&text, scan(db.Session(&gorm.Session{PrepareStmt: true}).Raw(byID, 7).Row(), &text))
	}},
	{"read-only transaction", func(db *gorm.DB, t *trail) error {
		return db.Transaction(func(tx *gorm.DB) error {
			t.answer()
			if err := tx.First(&Item{}, 3).Error; err != nil {
				return err
			}
			return readRows(tx, 5)
		}, &sql.TxOptions{ReadOnly: true})
	}},
}

// several returns what is wrong with an answer of five items.
func several(n int, err error) error {
	if err == nil && n != 5 {
		err = fmt.Errorf("%w: %d of 5 items", errTruncated, n)
	}
	return err
}

// scan scans a row, unless it is what GORM returns when it cannot prepare: of that Scan panics.
func scan(row *sql.Row, text *string) error {
	if *row == (sql.Row{}) {
		return errors.New("GORM could not prepare")
	}
	return row.Scan(text)
}

func one(text *string, err error) error {
	if err == nil && !strings.HasPrefix(*text, "item") {
		err = fmt.Errorf("the item is %q", *text)
	}
	return err
}

// readRows reads n items row by row.
func readRows(db *gorm.DB, n int) error {
	rows, err := db.Model(&Item{}).Limit(n).Rows()
	if err != nil {
		return err
	}
	defer rows.Close()
	return drain(rows, n)
}

func drain(rows *sql.Rows, n int) error {
	var item Item
	got := 0
	for rows.Next() {
		if err := rows.Scan(&item.ID, &item.Text); err != nil {
			return err
		}
		got++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if got != n {
		return fmt.Errorf("%w: %d of %d rows", errTruncated, got, n)
	}
	return nil
}

// errTruncated is an answer of which a part is missing, without an error that says so.
var errTruncated = errors.New("truncated")
