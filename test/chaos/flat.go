// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// measure is what must not grow while machines come and go.
type measure struct {
	name string
	// share and more are how much the later value may be above the earlier one: a share of
	// it, and a number.
	share, more float64
	of          func(Sample) (float64, bool)
}

// Flat is not nil if anything grew from one time of a recording to another: memory,
// goroutines or files of a program, or the driver's sessions. The first fifth is left out,
// since caches fill and pools open in it; of the rest, the median of the first third is
// compared with that of the last one. What leaks with each fault or machine shows in this
// however little it is at a time, if there are enough of either.
//
// A program that was started again begins anew, so kinds that kill have no place in such a run.
func Flat(samples []Sample, from, to time.Duration) error {
	within := slices.DeleteFunc(slices.Clone(samples), func(s Sample) bool { return s.At < from+(to-from)/5 || s.At > to })
	third := len(within) / 3
	if third < 3 {
		return fmt.Errorf("%d samples are too few", len(within))
	}
	var errs []error
	for _, m := range measures(programsOf(samples)) {
		early, late := median(within[:third], m.of), median(within[len(within)-third:], m.of)
		if late > early*(1+m.share)+m.more {
			errs = append(errs, fmt.Errorf("%s grew from %.1f to %.1f", m.name, early, late))
		}
	}
	return errors.Join(errs...)
}

func measures(programs []string) []measure {
	all := []measure{{"the driver's sessions", 0, 1, func(s Sample) (float64, bool) { return float64(s.Sessions), true }}}
	for _, program := range programs {
		for _, q := range quantities() {
			limit := measure{share: 0.1, more: 10}
			switch q.title {
			case "threads": // Go keeps them
				continue
			case "MiB":
				limit = measure{share: 0.15, more: 4}
			}
			limit.name = program + "'s " + q.title
			limit.of = func(s Sample) (float64, bool) {
				usage, found := s.Programs[program]
				return q.of(usage), found
			}
			all = append(all, limit)
		}
	}
	return all
}

// median is 0 if no sample has a value.
func median(samples []Sample, of func(Sample) (float64, bool)) float64 {
	var values []float64
	for i := range samples {
		if value, found := of(samples[i]); found {
			values = append(values, value)
		}
	}
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}
