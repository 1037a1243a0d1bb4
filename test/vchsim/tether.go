// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

// The keys below are spelled out, not taken from pkg/guestinfo: the guest reads
// what stands in the VM, as VIC's tether does, and so checks our encoding too.
const commonID = "guestinfo.vice./common/id"

func startedKey(id string) string { return "guestinfo.vice..sessions|" + id + ".started" }

func sessionKey(id, key string) string { return "guestinfo.vice./sessions|" + id + "/" + key }

// fate is what becomes of a guest that boots.
type fate int

const (
	runs  fate = iota
	hangs      // stays on and says nothing
	dies       // powers off and says nothing
	fails      // writes why as its started text and powers off
)

// verdict is the result of a boot.
type verdict struct {
	fate fate
	why  string
	nics []nic
	// mounts are what is to be mounted, by mount point.
	mounts map[string]Mount
}

// nic is one network endpoint of the guest.
type nic struct {
	network   string
	device    int32
	portgroup string
	main      bool
	static    bool
	address   net.IPNet
	gateway   net.IPNet
	dns       []net.IP
}

// machine is what a guest sees when it boots.
type machine struct {
	keys    map[string]string
	devices object.VirtualDeviceList
	exists  func(file string) bool
	root    *rootFS // nil if nothing is known of it
	// volumes are what is on the disks that stand on no other, by file.
	volumes map[string]*rootFS
}

func (m machine) get(format string, args ...any) string { return m.keys[fmt.Sprintf(format, args...)] }

// boot does what BIOS, boot script and tether do up to the launch of the
// process, as far as it can be seen from outside (vic: isos/bootstrap/bootstrap,
// cmd/tether, lib/tether).
func (m machine) boot() verdict {
	for _, step := range []func() (fate, string){m.bootDevices, m.blockDevices, m.serialPorts, m.hostKey} {
		if f, why := step(); f != runs {
			return verdict{fate: f, why: why}
		}
	}
	mounts, f, why := m.mounts()
	if f != runs {
		return verdict{fate: f, why: why}
	}
	nics, err := m.networks()
	if err != nil {
		return verdict{fate: dies, why: err.Error()}
	}
	f, why = m.session()
	return verdict{fate: f, why: why, nics: nics, mounts: mounts}
}

func (m machine) bootDevices() (fate, string) {
	for _, d := range m.devices.SelectByType((*types.VirtualCdrom)(nil)) {
		iso, ok := d.GetVirtualDevice().Backing.(*types.VirtualCdromIsoBackingInfo)
		if ok && m.exists(iso.FileName) {
			return runs, ""
		}
	}
	return hangs, "no bootable device: no CD-ROM with an existing ISO"
}

// blockDevices knows that the boot script waits for as many file system labels as
// there are block devices: each disk must have one of its own. A disk has the
// label of its first parent.
func (m machine) blockDevices() (fate, string) {
	if len(m.devices.SelectByType((*types.VirtualFloppy)(nil))) > 0 {
		return hangs, "a floppy drive never gets a label"
	}
	roots, labels := 0, map[string]string{containerLabel: "the root disk"}
	for _, d := range m.devices.SelectByType((*types.VirtualDisk)(nil)) {
		disk, ok := d.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok || !m.exists(disk.FileName) {
			return hangs, "a disk without file"
		}
		if controller := m.devices.FindByKey(d.GetVirtualDevice().ControllerKey); controller == nil || m.devices.Type(controller) != "pvscsi" {
			return hangs, fmt.Sprintf("disk %s is not on a paravirtual SCSI controller", disk.FileName)
		}
		if disk.Parent != nil {
			roots++
			continue
		}
		label := m.label(disk.FileName)
		switch other, taken := labels[label]; {
		case label == "":
			return hangs, fmt.Sprintf("disk %s has no file system label", disk.FileName)
		case taken:
			return hangs, fmt.Sprintf("disk %s has the label %q of %s", disk.FileName, label, other)
		}
		labels[label] = disk.FileName
	}
	if m.root != nil && m.root.broken != "" {
		return hangs, "the root disk has no file system that a guest can use: " + m.root.broken
	}
	if m.root != nil && m.root.label != containerLabel {
		return hangs, fmt.Sprintf("no disk has the label %s: that of the root disk is %q", containerLabel, m.root.label)
	}
	if roots != 1 {
		return hangs, fmt.Sprintf("%d disks with the label %s", roots, containerLabel)
	}
	return runs, ""
}

// label returns the label of a volume's file system, or "" if it has none.
func (m machine) label(file string) string {
	if fs := m.volumes[file]; fs != nil {
		return fs.label
	}
	return ""
}

// serialPorts are ttyS0 (attach), ttyS1 (tether.debug) and ttyS2 (output.log) by their order.
func (m machine) serialPorts() (fate, string) {
	ports := m.devices.SelectByType((*types.VirtualSerialPort)(nil))
	if len(ports) < 3 {
		return dies, fmt.Sprintf("%d serial ports, 3 are needed", len(ports))
	}
	if _, ok := ports[0].GetVirtualDevice().Backing.(*types.VirtualSerialPortURIBackingInfo); !ok {
		return dies, "ttyS0 is not connected to the network"
	}
	for i, name := range map[int]string{1: "tether.debug", 2: "output.log"} {
		file, ok := ports[i].GetVirtualDevice().Backing.(*types.VirtualSerialPortFileBackingInfo)
		if !ok || !strings.HasSuffix(file.FileName, "/"+name) {
			return dies, fmt.Sprintf("ttyS%d does not write to %s", i, name)
		}
		if c := ports[i].GetVirtualDevice().Connectable; c == nil || !c.StartConnected {
			return dies, fmt.Sprintf("ttyS%d is not connected at power-on", i)
		}
	}
	return runs, ""
}

func (m machine) hostKey() (fate, string) {
	raw, err := base64.StdEncoding.DecodeString(m.get("guestinfo.vice./key"))
	if err != nil {
		return dies, "key is not base64"
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return dies, "no key found"
	}
	if _, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return runs, ""
	}
	if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return runs, ""
	}
	if _, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return runs, ""
	}
	return dies, "key is not an unencrypted private key"
}

// mounts returns what the tether mounts. A label that no disk has it waits for
// without end (lib/tether/tether.go:317-350, lib/tether/ops_linux.go:917-943).
func (m machine) mounts() (map[string]Mount, fate, string) {
	mounts := map[string]Mount{}
	for _, name := range list(m.get("guestinfo.vice./mounts")) {
		key := func(rest string) string { return m.get("guestinfo.vice./mounts|%s/%s", name, rest) }
		mount := Mount{Volume: name, Mode: key("mode"), copyNew: key("copymode") == "2"}
		at := key("dest")
		switch scheme := key("source/Scheme"); scheme {
		case "nfs":
			mount.Source = "nfs://" + key("source/Host") + key("source/Path")
			// The kernel's NFS takes no mount without an address.
			if !strings.Contains(mount.Mode, "addr="+strings.Trim(key("source/Host"), "[]")) || key("source/Host") == "" {
				return nil, dies, fmt.Sprintf("mount %s of %s has no address in its mode %q", name, mount.Source, mount.Mode)
			}
		case "label":
			disk := m.labelled(key("source/Path"))
			if disk == nil {
				return nil, hangs, fmt.Sprintf("mount %s waits for a disk with the label %q", name, key("source/Path"))
			}
			mount.Disk = disk.FileName
			mount.Forgets = strings.Contains(disk.DiskMode, "nonpersistent")
		default:
			return nil, dies, fmt.Sprintf("mount %s has unknown scheme %q", name, scheme)
		}
		if !path.IsAbs(at) {
			return nil, dies, fmt.Sprintf("mount %s has the mount point %q", name, at)
		}
		mounts[path.Clean(at)] = mount
	}
	return mounts, runs, ""
}

// labelled returns the disk with a label, nil if there is none.
func (m machine) labelled(label string) *types.VirtualDiskFlatVer2BackingInfo {
	for _, d := range m.devices.SelectByType((*types.VirtualDisk)(nil)) {
		disk, ok := d.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if ok && disk.Parent == nil && label != "" && m.label(disk.FileName) == label {
			return disk
		}
	}
	return nil
}

func (m machine) networks() ([]nic, error) {
	var nics []nic
	for _, name := range list(m.get("guestinfo.vice./networks")) {
		n, err := m.network(name)
		if err != nil {
			return nil, fmt.Errorf("network %s: %w", name, err)
		}
		nics = append(nics, n)
	}
	return nics, nil
}

func (m machine) network(name string) (nic, error) {
	key := func(rest string) string { return m.get("guestinfo.vice./networks|%s/%s", name, rest) }
	n := nic{network: name, main: key("network/default") == "true", static: key("static") == "true"}
	if inner := key("network/Common/name"); inner != name {
		return n, fmt.Errorf("its inner name is %q", inner)
	}
	if kind := m.get("guestinfo.vice..networks|%s.network.type", name); kind != "external" && kind != "bridge" {
		return n, fmt.Errorf("type %q gets no firewall rules", kind)
	}
	slot, err := strconv.ParseInt(key("Common/id"), 10, 32)
	if err != nil {
		return n, fmt.Errorf("PCI slot %q is not a number", key("Common/id"))
	}
	if !slices.Contains([]int64{1184, 1216, 1248, 1280}, slot) {
		return n, fmt.Errorf("PCI slot %d does not exist", slot)
	}
	cards := m.devices.Select(func(d types.BaseVirtualDevice) bool {
		_, isCard := d.(types.BaseVirtualEthernetCard)
		at, ok := d.GetVirtualDevice().SlotInfo.(*types.VirtualDevicePciBusSlotInfo)
		return isCard && ok && int64(at.PciSlotNumber) == slot
	})
	if len(cards) != 1 {
		return n, fmt.Errorf("%d interfaces at PCI slot %d", len(cards), slot)
	}
	card := cards[0].GetVirtualDevice()
	n.device = card.Key
	if backing, ok := card.Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo); ok {
		n.portgroup = backing.Port.PortgroupKey
	}
	if !n.static {
		return n, nil
	}
	if n.address.IP, n.address.Mask = address(key("ip/IP")), net.IPMask(address(key("ip/Mask"))); n.address.IP == nil || n.address.Mask == nil {
		return n, fmt.Errorf("static without address: nil dereference")
	}
	n.gateway = net.IPNet{IP: address(key("network/gateway/IP")), Mask: net.IPMask(address(key("network/gateway/Mask")))}
	if count, err := strconv.Atoi(key("network/dns")); err == nil {
		for i := range count + 1 {
			n.dns = append(n.dns, address(key(fmt.Sprintf("network/dns|%d", i))))
		}
	}
	return n, nil
}

// address decodes the bytes of an address or a mask; nil if there are none.
func address(value string) net.IP {
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil || (len(raw) != net.IPv4len && len(raw) != net.IPv6len) {
		return nil
	}
	return raw
}

var containerIDPattern = regexp.MustCompile("^[0-9a-f]{64}$|^[0-9a-f]{12}$")

// session checks the primary session; its process is the container.
func (m machine) session() (fate, string) {
	id := m.get(commonID)
	if !containerIDPattern.MatchString(id) {
		return dies, fmt.Sprintf("container id %q is not valid", id)
	}
	if !slices.Contains(list(m.get("guestinfo.vice./sessions")), id) || m.keys[sessionKey(id, "common/id")] != id {
		return hangs, "no session has the container's id: nothing is launched"
	}
	if m.keys[sessionKey(id, "active")] != "true" {
		return hangs, "the session is not active"
	}
	if m.get("guestinfo.vice..sessions|%s.runblock", id) == "true" {
		return hangs, "the session waits for someone to attach"
	}
	var env []string
	for _, key := range []string{"cmd/Args", "cmd/Env"} {
		values, err := slice(m.keys[sessionKey(id, key)], m.keys[sessionKey(id, key+"~")])
		if err != nil {
			return dies, fmt.Sprintf("panic in %s: %v", key, err)
		}
		env = values
	}
	if why := m.user(m.keys[sessionKey(id, "User")], m.keys[sessionKey(id, "Group")]); why != "" {
		return fails, why
	}
	dir := m.keys[sessionKey(id, "cmd/Dir")]
	if why := m.command(m.keys[sessionKey(id, "cmd/Path")], dir, env); why != "" {
		return fails, why
	}
	return runs, ""
}

// user looks for the process's user and group, which may be numbers.
func (m machine) user(user, group string) string {
	if m.root == nil {
		return ""
	}
	if unknown(user, m.root.users) {
		return fmt.Sprintf("unable to find user %s: no matching entries in passwd file", user)
	}
	if unknown(group, m.root.groups) {
		return fmt.Sprintf("unable to find group %s: no matching entries in group file", group)
	}
	return ""
}

func unknown(name string, names map[string]bool) bool {
	_, err := strconv.ParseUint(name, 10, 31)
	return name != "" && err != nil && !names[name]
}

// command looks for the process's executable and directory. It returns why the
// process cannot be launched, or nothing.
func (m machine) command(name, dir string, env []string) string {
	candidates, why := []string{name}, ""
	switch {
	case strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../"):
		candidates = []string{dir + "/" + name}
	case !strings.Contains(name, "/"):
		candidates = nil
		for _, variable := range env {
			if value, ok := strings.CutPrefix(variable, "PATH="); ok && name != "" {
				for _, in := range strings.Split(value, ":") {
					candidates = append(candidates, in+"/"+name)
				}
				break
			}
		}
		why = name + ": no such executable in PATH"
	}
	found := slices.IndexFunc(candidates, func(c string) bool { return m.root == nil || m.root.executable(c) == "" })
	switch {
	case found < 0 && why != "":
		return why
	case found < 0:
		return m.root.executable(candidates[0])
	case m.root == nil || dir == "":
		return ""
	}
	if in, err := m.root.follow(dir); err != nil || !m.root.isDir(in) {
		return fmt.Sprintf("chdir %s: no such file or directory", dir)
	}
	return ""
}

// slice decodes a list of strings. A list that is longer than its count says was
// corrupted by its encoder; VIC would cut it silently, here it is an error.
func slice(count, joined string) ([]string, error) {
	if count == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return nil, fmt.Errorf("count %q is not a number", count)
	}
	values := strings.Split(joined, "|")
	if len(values) != n+1 {
		return nil, fmt.Errorf("%d values, count says %d", len(values), n+1)
	}
	return values, nil
}
