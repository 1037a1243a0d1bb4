// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"strconv"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

const createTime = "guestinfo.vice..createtime"

// newestSeconds is more than any time in seconds that VIC wrote, and less than any in
// nanoseconds: as seconds it is the year 33658, as nanoseconds 17 minutes after the epoch.
const newestSeconds = 1_000_000_000_000

// createTimeNanoseconds is VIC's plugin 9 (lib/migration/plugins/plugin9/container_create_timestamp.go:46-81).
// VIC multiplies whatever it finds: text that is no number becomes 0, and nanoseconds
// overflow. This one leaves both alone, and 0, which is no time.
func createTimeNanoseconds() migration.Plugin {
	return migration.Plugin{
		Version: 9, Target: migration.Container, Name: "create-time-nanoseconds",
		About:   "the time of creation is in nanoseconds instead of seconds",
		Touches: []string{createTime},
		Step: func(keys map[string]string) (migration.Change, error) {
			seconds, err := strconv.ParseInt(keys[createTime], 10, 64)
			if err != nil || seconds <= 0 || seconds >= newestSeconds {
				return migration.Change{}, nil // what is no number is 0 to every reader
			}
			return migration.Change{Set: map[string]string{createTime: strconv.FormatInt(seconds*int64(time.Second), 10)}}, nil
		},
	}
}
