// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
)

// spoil is how an answer goes wrong.
type spoil string

const (
	// truncated executes the call and leaves out the second half of its answer.
	truncated spoil = "truncated"
	// garbage executes the call and answers something that is no XML.
	garbage spoil = "garbage"
	// html answers a page for people with status 200, as a portal or a proxy does.
	html spoil = "html"
	// unavailable is 503 with a page, as vCenter's reverse proxy answers it.
	unavailable spoil = "503"
	// broken is 500 without a SOAP fault.
	broken spoil = "500"
)

// page is what people would see.
const page = "<html><head><title>Maintenance</title></head><body>We will be back soon.<br></body></html>"

// Answers stands in front of a vCenter's SOAP endpoint and spoils answers. The zero value
// spoils none.
type Answers struct {
	mu          sync.Mutex
	how         spoil
	probability float64
	spoilt      int
	arrived     int
}

// Arrived is how many requests have come so far, spoilt or not.
func (a *Answers) Arrived() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.arrived
}

// set spoils answers from now on, with a probability; 0 ends it. It returns how many were
// spoilt since the last set.
func (a *Answers) set(how spoil, probability float64) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.how, a.probability = how, probability
	spoilt := a.spoilt
	a.spoilt = 0
	return spoilt
}

func (a *Answers) roll() spoil {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.arrived++
	if a.probability == 0 || rand.Float64() >= a.probability {
		return ""
	}
	a.spoilt++
	return a.how
}

// Wrap is for vchsim.Options.
func (a *Answers) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/sdk" {
			next.ServeHTTP(w, r)
			return
		}
		how := a.roll()
		switch how {
		case "":
			next.ServeHTTP(w, r)
		case truncated, garbage:
			execute(next, w, r, how)
		case html:
			answer(w, http.StatusOK, "text/html", page)
		case unavailable:
			answer(w, http.StatusServiceUnavailable, "text/html", page)
		case broken:
			answer(w, http.StatusInternalServerError, "text/plain", "Internal Server Error")
		}
	})
}

// execute executes the call and spoils its answer.
func execute(next http.Handler, w http.ResponseWriter, r *http.Request, how spoil) {
	recorded := httptest.NewRecorder()
	next.ServeHTTP(recorded, r)
	for key, values := range recorded.Header() {
		w.Header()[key] = values
	}
	body := recorded.Body.Bytes()
	if how == garbage {
		body = bytes.Repeat([]byte{0xff, 0x00, '<', '&', 0x1b}, 1+len(body)/5)
	} else {
		body = body[:len(body)/2]
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(recorded.Code)
	_, _ = w.Write(body) // whoever reads it may have gone
}

func answer(w http.ResponseWriter, status int, kind, body string) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // whoever reads it may have gone
}
