package token_test

import (
	"fmt"
	"time"

	"github.com/gorm-replicated/replicated/internal/token"
)

func Example() {
	// A secret is made once, by "openssl rand -base64 32", and is the same on every instance.
	secrets := [][]byte{[]byte("3V2tyxmG4T4Tz0oW1rXl0v7lJp7TjG9xw0sYb4mKf1c=")}
	sealer, err := token.NewSealer(secrets, "guestbook/replicated")
	if err != nil {
		fmt.Println(err)
		return
	}

	now := time.Now()
	text, err := sealer.Seal(token.Token{{History: "orders", Position: []byte("0-1-42")}}, now)
	fmt.Println(len(text), err)

	t, err := sealer.Open(text, now.Add(4*time.Minute), 5*time.Minute)
	fmt.Printf("%s %s %v\n", t[0].History, t[0].Position, err)

	_, err = sealer.Open(text, now.Add(6*time.Minute), 5*time.Minute)
	fmt.Println(err)
	// Output:
	// 87 <nil>
	// orders 0-1-42 <nil>
	// token: expired
}
