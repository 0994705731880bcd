package token

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

// Tokens that were sealed once: whatever changes here, they must open, or instances of before and after a
// deploy do not understand each other. A change of format adds a version and its vectors; these stay.
var vectors = []struct {
	name    string
	secret  []byte
	context string
	content string // as encode returned it
	t       Token
	text    string
}{
	{"a position", secretA, "app",
		"01959533fa870101066f72646572730006302d312d3432",
		Token{{History: "orders", Position: []byte("0-1-42")}},
		"v1.ta1F3JMrJFoviPcpzjCkoJjIaL1Unei_sOaQ0aNB54DioRuCDgfm5WxggG7UWM4NRExixJ-Y0qvU18l_bH5x",
	},
	{"a time", secretA, "app",
		"01959533fa87010200019595340e0f",
		Token{{Until: at(5000)}},
		"v1.dVhXiA4SDZRZ-KlnlY9L-DLgKs25RRjeaPo_G3OFbomHsEErUThsdYc_T8RWG1Pphm3j67kw-g",
	},
	{"both", secretB, "",
		"01959533fa870103066f7264657273019595340e0f001818202a364454667a90a8c2defc1c3e6288b0da06346496ca",
		Token{{History: "orders", Position: of(24), Until: at(5000)}},
		"v1.2jYO4iZrHFIEKk2HNdWU-F0SnJDU3cHMFswmXXO2dC5Yi7odwFuyFqVrbBRZQvS-6H44sAeO9l8oJXBMobxp6cB6BDy9x" +
			"DCLT_Pi9wlWMWIDhnMA2s-N",
	},
	{"histories", secretC, "shop/replicated",
		"01959533fa870301000012121a24303e4e60748aa2bcd8f616385c82aa02066f7264657273019595340e0f0105757365" +
			"72730032323a44505e6e8094aac2dcf81636587ca2caf4204e7eb0e41a528cc8064688cc125aa4f03e8ee0348ae23c98" +
			"f656b81c82ea",
		Token{{Position: of(18)}, {History: "orders", Until: at(5000)}, {History: "users", Position: of(50)}},
		"v1.gB2LVFDhLSqBsmvQvatHnbrAefqXF9S6ps_7pbQjVGwlis4EXoZROmPhHHR89Bq5b5vOj0vNcDIF04QrAPeE5ZNEJQ8Jg" +
			"pIAU271zaYN3l6NURS-F0XgQXUJeaB5GtoZKP3QxkTNlgnzTFUtlfgMLwsnk6MCVKHWvG81fQAbd3eY-c8n3uAbDLpRwGZkKw",
	},
	{"a history, and since when", secretA, "app",
		"01959533fa870105081ba50f02c8779e3101959533f4ab0006302d312d3432",
		Token{{History: "\x1b\xa5\x0f\x02\xc8\x77\x9e\x31", Position: []byte("0-1-42"), Since: at(-1500)}},
		"v1.ToOyVBi8b29lUthOTPZoa846qSC99nt-BTEx4V98G56qr6gXX6apvifm0m-sAzPGj5KQGYG6uQ_cym83-AlSMmgdaTkvN4Y",
	},
}

func TestVectors(t *testing.T) {
	for _, tt := range vectors {
		t.Run(tt.name, func(t *testing.T) {
			s := newSealer(t, tt.context, tt.secret)
			if got, err := s.Open(tt.text, issued, ttl); err != nil || !reflect.DeepEqual(got, tt.t) {
				t.Errorf("opened: %+v, %v; want %+v", got, err, tt.t)
			}
			if got, err := encode(tt.t, issued); err != nil || hex.EncodeToString(got) != tt.content {
				t.Errorf("content: %x, %v; want %s", got, err, tt.content)
			}
			// And what is sealed now is what instances of before understand.
			for _, text := range []string{tt.text, seal(t, s, tt.t)} {
				if !strings.HasPrefix(text, "v1.") || len(text) != len(tt.text) {
					t.Errorf("%q; want something of the kind of %q", text, tt.text)
				}
				content, err := openByHand(deriveByHand(tt.secret), decoded(t, text), "v1."+tt.context)
				if err != nil || hex.EncodeToString(content) != tt.content {
					t.Errorf("opened by hand: %x, %v; want %s", content, err, tt.content)
				}
			}
		})
	}
}
