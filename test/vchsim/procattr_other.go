// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package vchsim

import "syscall"

// dieWithParent has no equivalent here: a killed simulator leaves its kubelets behind.
func dieWithParent() *syscall.SysProcAttr { return nil }
