// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// The options that there are. VIC has some more for its own use.
const (
	optionStore    = "volumestore"
	optionCapacity = "capacity"
)

// Options are VIC's driver options of a volume, as docker volume create --opt has them.
type Options struct {
	// Store is the label of the store; empty if none was named.
	Store string
	// Capacity is in bytes; 0 if none was given.
	Capacity int64
}

// ParseOptions reads driver options by VIC's rules (lib/apiservers/engine/proxy/storage_proxy.go:72-89,658-703):
// volumestore and capacity, in letters of either case, and no others. A capacity without unit is
// in MB, at least 1; one with a unit is a decimal size such as 2GB. VIC takes one MB of either for 1 MiB;
// what is over counts as a whole one here. A capacity that ValidateCapacity refuses is refused here.
// Errors are InvalidArgument and name the option.
func ParseOptions(options map[string]string) (Options, error) {
	var o Options
	given := map[string]string{} // by the option in small letters, as it was written
	for _, key := range slices.Sorted(maps.Keys(options)) {
		value, option := options[key], strings.ToLower(key)
		if first, twice := given[option]; twice {
			return Options{}, errdefs.New(errdefs.InvalidArgument, "option %s is given twice, as %s and as %s", option, first, key)
		}
		given[option] = key
		var err error
		switch option {
		case optionStore:
			if o.Store = value; value == "" {
				err = errdefs.New(errdefs.InvalidArgument, "option %s is empty: name a volume store, or leave it out for the default one", key)
			}
		case optionCapacity:
			o.Capacity, err = parseCapacity(value)
			err = errdefs.Wrap(errdefs.InvalidArgument, err, "option %s", key)
		default:
			err = errdefs.New(errdefs.InvalidArgument, "option %s is not supported: there are %s and %s", quoted(key), optionStore, optionCapacity)
		}
		if err != nil {
			return Options{}, err
		}
	}
	return o, nil
}

// decimalSize is what VIC's library takes for a size.
var decimalSize = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([kKmMgGtTpP]?)[bB]?$`)

// parseCapacity returns a capacity in bytes.
func parseCapacity(s string) (int64, error) {
	mb, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		if mb, err = parseDecimal(s); err != nil {
			return 0, err
		}
	}
	const limit = MaxCapacity / CapacityUnit
	switch {
	case mb > limit:
		return 0, errdefs.New(errdefs.InvalidArgument, "capacity %s is too large: %d MB are the most", quoted(s), limit)
	case mb < MinCapacity/CapacityUnit:
		return 0, errdefs.New(errdefs.InvalidArgument, "capacity %s is too small for a file system with a journal: %d MB are the least; a number without unit is in MB", quoted(s), MinCapacity/CapacityUnit)
	}
	return mb * CapacityUnit, nil
}

// parseDecimal returns a size with a unit in MB, of which it has 10^6 bytes, rounded up.
func parseDecimal(s string) (int64, error) {
	m := decimalSize.FindStringSubmatch(s)
	if m == nil {
		return 0, errdefs.New(errdefs.InvalidArgument, "capacity %s is no size: write MB as a number such as 2048, or a decimal size such as 2GB or 1.5 TB", quoted(s))
	}
	n, _ := strconv.ParseFloat(m[1], 64) // of too many digits it makes infinity
	for range max(0, strings.Index(" kmgtp", strings.ToLower(m[2]))) {
		n *= 1000
	}
	const mb = 1_000_000
	if n > float64(2*MaxCapacity) {
		return 2 * MaxCapacity / mb, nil // too large in any case
	}
	return (int64(n) + mb - 1) / mb, nil
}

// quoted is what somebody wrote, as errors show it: in quotes, and not without end.
func quoted(s string) string {
	const most = 100
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
