// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"sync"
	"unicode"
)

const (
	// maxText bounds what a server's words take in an error.
	maxText = 300
	// minSecret is the shortest text that is taken out of errors wherever it stands.
	// A shorter one would be found in words.
	minSecret = 4
	// minValue is the shortest value of a query that is.
	minValue = 8
	// maxLearned bounds what is remembered of requests, the latest.
	maxLearned = 256
)

// scrubber takes secrets out of texts.
type scrubber struct {
	mu      sync.Mutex
	given   []string // from the options
	learned []string // from the registry, the newest last
}

func newScrubber(secrets []string) *scrubber {
	s := &scrubber{}
	for _, secret := range secrets {
		s.given = append(s.given, spellings(secret)...)
	}
	return s
}

// spellings lists how a secret may stand in a text, the longest first.
func spellings(secret string) []string {
	if len(secret) < minSecret {
		return nil
	}
	all := []string{secret, url.QueryEscape(secret), url.PathEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret))}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(all)
}

// learn remembers what a request has that is secret: its authorization, and the
// query of a URL that a registry made.
func (s *scrubber) learn(authorization string, query url.Values) {
	var values []string
	if _, value, ok := strings.Cut(authorization, " "); ok && len(value) >= minSecret {
		values = append(values, value)
	}
	for _, all := range query {
		for _, value := range all {
			if len(value) >= minValue {
				values = append(values, value, url.QueryEscape(value))
			}
		}
	}
	if len(values) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, value := range values {
		if at := slices.Index(s.learned, value); at >= 0 {
			s.learned = slices.Delete(s.learned, at, at+1)
		}
		s.learned = append(s.learned, value)
	}
	s.learned = slices.Delete(s.learned, 0, max(0, len(s.learned)-maxLearned))
}

// text returns a text of somebody else as it may be shown: one line, not too long,
// without secrets and what URLs have of them.
func (s *scrubber) text(t string) string {
	t = scrubURLs(clean(t, len(t)))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secrets := range [][]string{s.learned, s.given} {
		for _, secret := range secrets {
			t = strings.ReplaceAll(t, secret, "[redacted]")
		}
	}
	return clean(t, maxText)
}

// clean makes one line of printable characters with at most limit bytes.
func clean(t string, limit int) string {
	short := t
	if len(t) > limit {
		short = t[:limit]
	}
	short = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(short, ""))
	short = strings.TrimSpace(short)
	if len(t) > limit {
		short += "..."
	}
	return short
}

// shown is what an error shows of a host that somebody wrote; some write a password
// in front of it.
func shown(host string) string {
	host, _, _ = strings.Cut(clean(host, maxText), "?")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		return "...@" + host[at+1:]
	}
	return host
}

// scrubURLs takes user names, passwords, queries and fragments out of all URLs of
// a text.
func scrubURLs(t string) string {
	var out strings.Builder
	for {
		at := strings.Index(t, "://")
		if at < 0 {
			out.WriteString(t)
			return out.String()
		}
		at += len("://")
		out.WriteString(t[:at])
		t = t[at:]
		end := strings.IndexFunc(t, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("\"'<>`|\\", r) })
		if end < 0 {
			end = len(t)
		}
		u, rest := t[:end], t[end:]
		if cut := strings.IndexAny(u, "?#"); cut >= 0 {
			u = u[:cut]
		}
		authority := u
		if slash := strings.IndexByte(u, '/'); slash >= 0 {
			authority = u[:slash]
		}
		if user := strings.LastIndexByte(authority, '@'); user >= 0 {
			u = u[user+1:]
		}
		// A URL in the path of a URL has secrets as well.
		if strings.Contains(u, "://") {
			u = scrubURLs(u)
		}
		out.WriteString(u)
		t = rest
	}
}
