// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// markFormat is ours: the mark says what format it has, and what scheme made the
// digest of the ProviderSpec in it. Format 1 knew one scheme only. It had no fields that
// today's mark has not, so nothing is lost with the new text.
func markFormat() migration.Plugin {
	key := guestinfo.AnnotationKey(identity.MarkAnnotation)
	return migration.Plugin{
		Version: 2, Target: migration.Machine, Name: "mark-format",
		About:   "the mark names its format and the scheme of its digest",
		Touches: []string{key},
		Step: func(keys map[string]string) (migration.Change, error) {
			mark, err := identity.DecodeMark(keys[key])
			if err != nil {
				return migration.Change{}, err
			}
			if mark.Digest == 0 {
				mark.Digest = 1
			}
			encoded, err := mark.Encode()
			if err != nil {
				return migration.Change{}, err
			}
			return migration.Change{Set: map[string]string{key: encoded}}, nil
		},
	}
}
