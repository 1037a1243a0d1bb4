// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
)

// images is a metric of image pulls that has one sample.
func images(name, kind, help string, value func(s pull.Stats) float64) family[pull.Stats] {
	return family[pull.Stats]{
		Description: Description{"image_" + name, kind, nil, help},
		samples:     func(s pull.Stats, _ time.Time) []sample { return at(value(s)) },
	}
}

func imageFamilies() []family[pull.Stats] {
	return []family[pull.Stats]{
		images("pulls_running", gauge, "Image pulls under way, those that wait for their turn included.",
			func(s pull.Stats) float64 { return float64(s.Running) }),
		{
			Description: Description{
				"image_pulls_total", counter,
				[]string{"result"},
				"Image pulls that ended: the disk was made here (result made), was there or made by another process (found), or not (failed).",
			},
			samples: func(s pull.Stats, _ time.Time) []sample {
				return []sample{
					{float64(s.Made), []string{"made"}},
					{float64(s.Found), []string{"found"}},
					{float64(s.Failed), []string{"failed"}},
				}
			},
		},
		images("downloaded_bytes_total", counter, "Size of the layers that were downloaded from registries.",
			func(s pull.Stats) float64 { return float64(s.Downloaded) }),
		images("uploaded_bytes_total", counter, "Content of image disks that was sent to datastores.",
			func(s pull.Stats) float64 { return float64(s.Uploaded) }),
	}
}
