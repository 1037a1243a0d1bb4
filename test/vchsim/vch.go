// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
)

// adminSession is the process of a VCH's administration server, proxy what it reaches
// the world by.
const (
	adminSession = "vicadmin"
	proxy        = "http://proxy.example.com:3128"
)

// vch is one VCH of the world.
type vch struct {
	name      string
	uuid      string // of the appliance
	appliance ref
	folder    ref
	pool      ref
	iso       string // bootstrap.iso as vSphere shows its path
	layer     string // id of the image layer that docker containers stand on
	layerDisk string
	bridge    int // port group of its bridge network
	stores    []volumeStore
}

// networks are the container networks by name, as port groups.
func (v vch) networks() map[string]int {
	return map[string]int{BridgeNetwork: v.bridge, ExternalNetwork: externalPortgroup, StaticNetwork: staticPortgroup}
}

// makeVCH makes a VCH the way VIC's installer leaves one behind
// (lib/install/management/appliance.go): folder, pool, appliance directory with
// the ISOs, image store with one complete layer, volume stores with one volume,
// and the running appliance with its configuration.
func (s *Sim) makeVCH(name string, bridge int) (vch, error) {
	v := vch{
		name: name, bridge: bridge,
		uuid:  uuid.NewSHA1(uuid.NameSpaceDNS, []byte(name+".vch.invalid")).String(),
		layer: strings.Repeat("0123456789abcdef", 4),
	}
	var err error
	if v.folder, err = s.makeFolder(name); err != nil {
		return v, err
	}
	if v.pool, err = s.makePool(name); err != nil {
		return v, err
	}
	if err := s.makeVCHFiles(&v); err != nil {
		return v, err
	}
	vm, err := s.makeVM(v.folder, v.pool, types.VirtualMachineConfigSpec{
		Name: name, Uuid: v.uuid, GuestId: "otherGuest64",
		AlternateGuestName: "Photon - VCH v1.5.7, 21000, 9489f63",
		Files:              &types.VirtualMachineFileInfo{VmPathName: path.Dir(v.iso) + "/" + name + ".vmx"},
		NumCPUs:            1, MemoryMB: 2048,
	})
	if err != nil {
		return v, err
	}
	v.appliance = vm.Self
	keys, err := guestinfo.EncodeVCH(s.vchConfig(v))
	if err != nil {
		return v, fmt.Errorf("encode configuration of VCH %s: %w", name, err)
	}
	keys = guestinfo.OptionValues(keys)
	if version := s.options.VCHDataVersion; version != nil {
		keys = OldVCHKeys(keys, *version)
	}
	ctx := s.newContext()
	ctx.WithLock(vm, func() { setExtraConfig(ctx, vm, keys) })
	ctx = s.newContext()
	if _, err := s.await(lockedPowerOn(ctx, vm), "power on the appliance of VCH %s", name); err != nil {
		return v, err
	}
	return v, nil
}

func (s *Sim) makeVCHFiles(v *vch) error {
	layers := dsPath(v.name, "VIC", v.uuid, "images", v.layer)
	var err error
	if v.iso, err = s.putFile(dsPath(v.name, "bootstrap.iso"), "bootstrap"); err != nil {
		return err
	}
	files, err := kvStores(v)
	if err != nil {
		return err
	}
	maps.Copy(files, map[string]string{
		dsPath(v.name, "appliance.iso"):    "appliance",
		layers + "/manifest":               "",
		layers + "/imageMetadata/metaData": "{}",
	})
	for file, content := range files {
		if _, err := s.putFile(file, content); err != nil {
			return err
		}
	}
	v.layerDisk = layers + "/" + v.layer + ".vmdk"
	if err := s.makeDisk(v.layerDisk); err != nil {
		return err
	}
	return s.makeVolumeStores(v)
}

// vchConfig is what VIC's installer writes into the appliance's ExtraConfig.
func (s *Sim) vchConfig(v vch) *guestinfo.VCHConfig {
	mask16 := net.CIDRMask(16, 32)
	config := &guestinfo.VCHConfig{
		ExecutorConfig: guestinfo.ExecutorConfig{
			ExecutorConfigCommon: guestinfo.ExecutorConfigCommon{ID: v.appliance.String(), Name: v.name},
			Version:              vicVersion(),
			Sessions: map[string]*guestinfo.SessionConfig{"port-layer": {
				Common: guestinfo.Common{ID: "port-layer", Name: "port-layer"},
				Cmd: guestinfo.Cmd{
					Path: "/sbin/port-layer-server",
					Args: []string{"/sbin/port-layer-server"},
					Env:  []string{"DC_PATH=" + s.Datacenter, "POOL_PATH=/" + s.Datacenter + "/host/DC0_C0/Resources/" + v.name, "DS_PATH=" + Datastore},
				},
				Active: true, Restart: true,
			}, adminSession: {
				Common: guestinfo.Common{ID: adminSession, Name: adminSession},
				Cmd: guestinfo.Cmd{
					Path: "/sbin/vicadmin", Args: []string{"/sbin/vicadmin"},
					Env: []string{"PATH=/sbin:/bin", "VICADMIN_HTTP_PROXY=" + proxy, "VICADMIN_HTTPS_PROXY=" + proxy},
				},
				Active: true, Restart: true,
			}},
		},
		Connection: guestinfo.Connection{
			Target: "https://vcenter.example.com", Username: "operations@vsphere.local",
			Token: "b3BhcXVlIGluIHRoaXMgd29ybGQ=", Keepalive: 30 * time.Second,
		},
		Storage: guestinfo.Storage{
			ImageStores:     []url.URL{{Scheme: "ds", Host: Datastore, Path: v.name}},
			VolumeLocations: s.volumeLocations(v),
			ScratchSize:     8_000_000,
		},
		Network: guestinfo.Network{
			BridgeNetwork:      BridgeNetwork,
			ContainerNetworks:  map[string]*guestinfo.ContainerNetwork{},
			BridgeIPRange:      &net.IPNet{IP: net.IPv4(172, 16, 0, 0).To4(), Mask: net.CIDRMask(12, 32)},
			BridgeNetworkWidth: &mask16,
		},
		Container: guestinfo.Container{
			ComputeResources:   []guestinfo.ManagedObjectReference{{Type: v.pool.Type, Value: v.pool.Value}},
			BootstrapImagePath: v.iso,
		},
		Certificate:             guestinfo.Certificate{RegistryCertificateAuthorities: s.options.Registries.CABundle},
		Registry:                guestinfo.Registry{RegistryWhitelist: s.options.Registries.Whitelist, InsecureRegistries: s.options.Registries.Insecure},
		GrantPermsLevel:         "ADD",
		VicMachineCreateOptions: []string{"--name=" + v.name},
	}
	for name, i := range v.networks() {
		n := &guestinfo.ContainerNetwork{Type: "external", Common: guestinfo.Common{Name: name, ID: s.places.networks[i].String()}}
		switch name {
		case BridgeNetwork:
			n.Type = "bridge"
		case ExternalNetwork:
			n.TrustLevel = guestinfo.TrustOpen
		case StaticNetwork:
			n.TrustLevel = guestinfo.TrustPublished
			n.Gateway = net.IPNet{IP: net.IPv4(10, 20, 30, 1), Mask: net.CIDRMask(24, 32)}
			n.Nameservers = []net.IP{net.IPv4(10, 20, 30, 2)}
			n.Pools = []guestinfo.IPRange{{FirstIP: net.IPv4(10, 20, 30, 64), LastIP: net.IPv4(10, 20, 30, 80)}}
		}
		config.ContainerNetworks[name] = n
	}
	return config
}

func vicVersion() *guestinfo.Version {
	return &guestinfo.Version{
		Version: "v1.5.7", GitCommit: "9489f63", BuildDate: "2022-06-10T13:26:47Z",
		BuildNumber: "21000", PluginVersion: 10,
	}
}

// ApplianceSetUpdateInProgress marks the VCH's appliance as VIC's upgrade does, or takes
// the mark away.
func (s *Sim) ApplianceSetUpdateInProgress(on bool) {
	vm, ok := s.registry.Get(s.vch.appliance).(*simulator.VirtualMachine)
	if !ok {
		return
	}
	ctx := s.newContext()
	ctx.WithLock(vm, func() {
		setExtraConfig(ctx, vm, map[string]string{"UpdateInProgress": fmt.Sprint(on)})
	})
}
