package main

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gorm.io/gorm"
)

const (
	maxName    = 40  // characters
	maxMessage = 500 // characters
	pageSize   = 20  // entries
)

// Entry is what one visitor wrote.
type Entry struct {
	ID        int64     `gorm:"primaryKey"`
	Name      string    `gorm:"size:40;not null"`
	Message   string    `gorm:"size:500;not null"`
	CreatedAt time.Time `gorm:"not null"`
}

// TableName is long so that on a server of yours it does not meet a table of yours.
func (Entry) TableName() string { return "guestbook_entries" }

// store reads and writes the entries. It says nothing about masters and slaves: that is in the contexts,
// which the plugin reads, and every query here is given the context of the request that it serves.
type store struct{ db *gorm.DB }

// Latest returns the newest entries, newest first, and how many there are in all.
func (s store) Latest(ctx context.Context) (entries []Entry, total int64, err error) {
	if err := s.db.WithContext(ctx).Model(&Entry{}).Count(&total).Error; err != nil {
		return nil, 0, err
	}
	err = s.db.WithContext(ctx).Order("id DESC").Limit(pageSize).Find(&entries).Error
	return entries, total, err
}

// Before returns the newest entries older than the entry of that number; zero stands for the newest of all.
func (s store) Before(ctx context.Context, id int64) (entries []Entry, err error) {
	query := s.db.WithContext(ctx).Order("id DESC").Limit(pageSize)
	if id > 0 {
		query = query.Where("id < ?", id)
	}
	return entries, query.Find(&entries).Error
}

// Search returns the newest entries whose name or message contains text.
func (s store) Search(ctx context.Context, text string) (entries []Entry, err error) {
	pattern := "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(text) + "%"
	err = s.db.WithContext(ctx).
		Where("name LIKE ? ESCAPE '!' OR message LIKE ? ESCAPE '!'", pattern, pattern).
		Order("id DESC").Limit(pageSize).Find(&entries).Error
	return entries, err
}

// Add writes an entry and reads it back.
func (s store) Add(ctx context.Context, name, message string) (Entry, error) {
	written := Entry{Name: name, Message: message, CreatedAt: time.Now().UTC().Truncate(time.Millisecond)}
	if err := s.db.WithContext(ctx).Create(&written).Error; err != nil {
		return Entry{}, err
	}
	var read Entry
	err := s.db.WithContext(ctx).First(&read, written.ID).Error
	return read, err
}

// checkEntry returns what a visitor wrote without the white space around it, and what to tell the visitor if
// it cannot be taken like that.
func checkEntry(name, message string) (_, _, complaint string) {
	name = strings.TrimSpace(name)
	message = strings.TrimSpace(strings.ReplaceAll(message, "\r\n", "\n"))
	switch {
	case name == "":
		complaint = "Please tell us your name."
	case message == "":
		complaint = "Please write something."
	case utf8.RuneCountInString(name) > maxName:
		complaint = fmt.Sprintf("Please use a shorter name: %d characters at most.", maxName)
	case utf8.RuneCountInString(message) > maxMessage:
		complaint = fmt.Sprintf("Please write less: %d characters at most.", maxMessage)
	case !printable(name, "") || !printable(message, "\n\t"):
		complaint = "Please use characters that can be printed."
	}
	return name, message, complaint
}

// printable reports whether s is text without control characters, but for those allowed.
func printable(s, allowed string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && !strings.ContainsRune(allowed, r)
	})
}
