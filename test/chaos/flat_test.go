// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"strings"
	"testing"
	"time"
)

func TestWhatGrowsIsNotFlat(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		of   func(i int) (Usage, int)
		want string
	}{
		"constant": {of: func(int) (Usage, int) { return Usage{Memory: 50 << 20, Goroutines: 30, Files: 20}, 1 }},
		"up and down": {of: func(i int) (Usage, int) {
			return Usage{Memory: 50 << 20, Goroutines: 30 + 40*(i%2), Files: 20}, 1 + i%3
		}},
		"at the begin": {of: func(i int) (Usage, int) { return Usage{Memory: float64(min(i, 20)) * (5 << 20), Goroutines: 30}, 1 }},
		"memory":       {of: func(i int) (Usage, int) { return Usage{Memory: float64(50+i/4) * (1 << 20)}, 1 }, want: "driver's MiB grew from"},
		"goroutines":   {of: func(i int) (Usage, int) { return Usage{Goroutines: 20 + i/3}, 1 }, want: "driver's goroutines grew from"},
		"files":        {of: func(i int) (Usage, int) { return Usage{Files: 20 + i/3}, 1 }, want: "driver's files grew from"},
		"sessions":     {of: func(i int) (Usage, int) { return Usage{}, 1 + i/25 }, want: "sessions grew from 2.0 to 4.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var samples []Sample
			for i := range 100 {
				usage, sessions := test.of(i)
				samples = append(samples, Sample{At: time.Duration(i) * time.Second, Sessions: sessions, Programs: map[string]Usage{"driver": usage}})
			}
			// Later there is more, and it does not count.
			samples = append(samples, Sample{At: time.Hour, Sessions: 100})
			err := Flat(samples, 0, 99*time.Second)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	if err := Flat(nil, 0, time.Minute); err == nil {
		t.Error("no samples are flat")
	}
}
