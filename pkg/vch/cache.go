// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// Cache remembers the configuration of VCHs. Concurrent questions for one VCH
// share one read. Failures are not remembered. Safe for concurrent use.
type Cache struct {
	clock clock.PassiveClock
	ttl   time.Duration
	group singleflight.Group

	mu      sync.Mutex
	entries map[cacheKey]cacheEntry
}

type cacheKey struct {
	client *vcenter.Client
	ref    v1alpha1.VirtualContainerHost
}

type cacheEntry struct {
	config *Config
	until  time.Time
}

// NewCache returns an empty cache whose entries are good for ttl. A VCH's
// configuration changes only by vic-machine, so minutes do no harm; what
// forbids changes at once (UpdateInProgress) is never cached.
func NewCache(clk clock.PassiveClock, ttl time.Duration) *Cache {
	return &Cache{clock: clk, ttl: ttl, entries: map[cacheKey]cacheEntry{}}
}

// Get returns the configuration of ref, from memory or by Find.
func (c *Cache) Get(ctx context.Context, client *vcenter.Client, ref v1alpha1.VirtualContainerHost) (*Config, error) {
	key := cacheKey{client: client, ref: ref}
	for {
		if cfg := c.lookup(key); cfg != nil {
			return cfg, nil
		}
		ch := c.group.DoChan(flightKey(key), func() (any, error) {
			cfg, err := Find(ctx, client, ref)
			if err == nil {
				c.store(key, cfg)
			}
			return cfg, err
		})
		select {
		case <-ctx.Done():
			return nil, vcenter.Convert(ctx.Err(), "read the configuration of VCH %s", describe(ref))
		case res := <-ch:
			if res.Err != nil && res.Shared && ctx.Err() == nil && isContextError(res.Err) {
				continue // the caller that read for all of us gave up; we did not
			}
			if res.Err != nil {
				return nil, res.Err
			}
			cfg, _ := res.Val.(*Config)
			return cfg, nil
		}
	}
}

// Forget drops ref, so that the next Get reads it anew: for callers that met a
// vanished object.
func (c *Cache) Forget(client *vcenter.Client, ref v1alpha1.VirtualContainerHost) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, cacheKey{client: client, ref: ref})
}

func (c *Cache) lookup(key cacheKey) *Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || !c.clock.Now().Before(e.until) {
		delete(c.entries, key)
		return nil
	}
	return e.config
}

func (c *Cache) store(key cacheKey, cfg *Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	for k, e := range c.entries { // sessions come and go with rotated secrets
		if !now.Before(e.until) {
			delete(c.entries, k)
		}
	}
	c.entries[key] = cacheEntry{config: cfg, until: now.Add(c.ttl)}
}

func flightKey(k cacheKey) string {
	return fmt.Sprintf("%p|%q|%q|%q|%q", k.client, k.ref.Datacenter, k.ref.Name, k.ref.Path, k.ref.MoRef)
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
