// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// newProxy starts a proxy on loopback in front of an address.
func newProxy(upstream string) (*toxiproxy.Proxy, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "vcenter", "127.0.0.1:0", upstream)
	if err := proxy.Start(); err != nil {
		return nil, fmt.Errorf("start the proxy in front of %s: %w", upstream, err)
	}
	return proxy, nil
}

// toxic is one of toxiproxy's.
type toxic struct {
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`
	Toxicity   float64        `json:"toxicity"`
	Attributes map[string]int `json:"attributes"`
}

// poison adds toxics to the connection until the undo takes them out.
func (w *World) poison(toxics ...toxic) (undo, error) {
	var names []string
	end := func(ctx context.Context) error {
		for _, name := range names {
			if err := w.proxy.Toxics.RemoveToxic(ctx, name); err != nil {
				return fmt.Errorf("remove the toxic %s: %w", name, err)
			}
		}
		return nil
	}
	for _, t := range toxics {
		encoded, err := json.Marshal(t)
		if err != nil {
			return nil, fmt.Errorf("encode a toxic: %w", err)
		}
		added, err := w.proxy.Toxics.AddToxicJson(bytes.NewReader(encoded))
		if err != nil {
			return end, fmt.Errorf("add the toxic %s: %w", encoded, err)
		}
		names = append(names, added.Name)
	}
	return end, nil
}

// poisoned is a kind that adds toxics, in the directions of answers and, if both, of requests.
func poisoned(name, does string, both bool, of func(strength float64) toxic) Kind {
	return Kind{
		Name: name, Does: does, Undone: "the toxic is taken out",
		strike: func(_ context.Context, w *World, strength float64) (string, undo, error) {
			down := of(strength)
			if down.Toxicity == 0 {
				down.Toxicity = 1
			}
			down.Stream = "downstream"
			all := []toxic{down}
			if both {
				up := down
				up.Stream = "upstream"
				all = append(all, up)
			}
			end, err := w.poison(all...)
			return fmt.Sprintf("%v", down.Attributes), end, err
		},
	}
}

func networkKinds() []Kind {
	type attributes = map[string]int
	scaled := func(least, most int, strength float64) int { return least + int(strength*float64(most-least)) }
	return []Kind{
		poisoned("latency", "every answer comes 100 to 800 ms late", false, func(s float64) toxic {
			return toxic{Type: "latency", Attributes: attributes{"latency": scaled(100, 800, s)}}
		}),
		poisoned("jitter", "every packet of answers comes up to 500 ms late, each by another time", false, func(s float64) toxic {
			half := scaled(50, 250, s)
			return toxic{Type: "latency", Attributes: attributes{"latency": half, "jitter": half}}
		}),
		poisoned("slow-bandwidth", "answers come with 20 to 100 kB/s for each connection", false, func(s float64) toxic {
			return toxic{Type: "bandwidth", Attributes: attributes{"rate": scaled(20, 100, 1-s)}}
		}),
		poisoned("slicer", "requests and answers come in slices of 100 to 400 bytes with a pause after each", true, func(s float64) toxic {
			return toxic{Type: "slicer", Attributes: attributes{"average_size": scaled(100, 400, 1-s), "size_variation": 50, "delay": 2000}}
		}),
		poisoned("resets", "every connection is reset 0 to 500 ms after its first answer", false, func(s float64) toxic {
			return toxic{Type: "reset_peer", Attributes: attributes{"timeout": scaled(0, 500, s)}}
		}),
		poisoned("cut-answers", "every connection is cut after 4 to 40 kB of answers, in the middle of one", false, func(s float64) toxic {
			return toxic{Type: "limit_data", Attributes: attributes{"bytes": scaled(4_000, 40_000, s)}}
		}),
		poisoned("half-open", "connections stay open and take data that never arrives, in both directions", true, func(float64) toxic {
			return toxic{Type: "timeout", Attributes: attributes{"timeout": 0}}
		}),
		{
			Name: "refused", Does: "all connections are cut, and new ones are refused", Undone: "the port is opened again",
			strike: func(_ context.Context, w *World, _ float64) (string, undo, error) {
				w.proxy.Stop()
				return "", func(context.Context) error { return w.openProxy() }, nil
			},
		},
		{
			Name: "vcenter-restarted", Does: "connections are refused, and all sessions are gone afterwards, with their collectors; inventory and tasks stay", Undone: "the port is opened again",
			Least: 4 * time.Second,
			strike: func(_ context.Context, w *World, _ float64) (string, undo, error) {
				w.proxy.Stop()
				w.Sim.ExpireSessions()
				return "", func(context.Context) error {
					w.Sim.ExpireSessions() // what had come in before the port was closed
					return w.openProxy()
				}, nil
			},
		},
	}
}

// openProxy makes the proxy listen again, where it did before. Kinds of two lanes may do
// so, one of them first.
func (w *World) openProxy() error {
	if err := w.proxy.Start(); err != nil && !errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
		return fmt.Errorf("open the port %s again: %w", w.address, err)
	}
	return nil
}
