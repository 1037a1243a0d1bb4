// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"math"
	"strconv"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

const createTime = "guestinfo.vice..createtime"

// Numbers between these two, both included, are seconds: more do not fit as nanoseconds (they
// would be of the year 2262), and the fewest are more than that many as nanoseconds. So no
// number is taken for seconds twice; only the first seconds of 1970 stay what they are.
const (
	fewestSeconds = 10
	mostSeconds   = math.MaxInt64 / int64(time.Second)
)

// createTimeNanoseconds is VIC's plugin 9 (lib/migration/plugins/plugin9/container_create_timestamp.go:46-81).
// VIC multiplies whatever it finds: text that is no number becomes 0, and nanoseconds
// overflow. This one leaves both alone, and what is no time: 0 and less.
func createTimeNanoseconds() migration.Plugin {
	return migration.Plugin{
		Version: 9, Target: migration.Container, Name: "create-time-nanoseconds",
		About:   "the time of creation is in nanoseconds instead of seconds",
		Touches: []string{createTime},
		Step: func(keys map[string]string) (migration.Change, error) {
			seconds, err := strconv.ParseInt(keys[createTime], 10, 64)
			if err == nil && seconds >= fewestSeconds && seconds <= mostSeconds {
				return migration.Change{Set: map[string]string{createTime: strconv.FormatInt(seconds*int64(time.Second), 10)}}, nil
			}
			return migration.Change{}, nil // what is no number is 0 to every reader
		},
	}
}
