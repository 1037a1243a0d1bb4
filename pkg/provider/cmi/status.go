// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"errors"
	"strings"

	mcmcodes "github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	mcmstatus "github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

const (
	// PluginName is the driver's name in GetPluginInfo, and the domain of its errors.
	PluginName = provider.VolumeDriver
	// ReasonUninitialized is the reason in the google.rpc.ErrorInfo of a
	// FailedPrecondition that is MCM's Uninitialized.
	ReasonUninitialized = "UNINITIALIZED"
	// infoProviderID and infoNodeName are the keys in the metadata of that
	// ErrorInfo: the response that MCM wants together with the error.
	infoProviderID = "providerID"
	infoNodeName   = "nodeName"
)

// toGRPC turns an error of a provider.Driver into one of gRPC, with code and text
// as they are. Every error of this server has an ErrorInfo of our domain, by
// which a client tells it from an error of the transport.
func toGRPC(err error) error {
	return toGRPCWith(err, nil)
}

// toGRPCWith adds metadata to the ErrorInfo.
func toGRPCWith(err error, info map[string]string) error {
	if err == nil {
		return nil
	}
	code, text := codeAndText(err)
	reason := upperSnake(code.String())
	onWire := codes.Code(code)
	if code == mcmcodes.Uninitialized {
		onWire, reason = codes.FailedPrecondition, ReasonUninitialized
	}
	return newStatus(onWire, text, reason, info).Err()
}

// codeAndText reads an error of a driver, which is one of MCM.
func codeAndText(err error) (mcmcodes.Code, string) {
	var s *mcmstatus.Status
	if !errors.As(err, &s) {
		// The server's own errors have kinds of which MCM's codes bear the names.
		return mcmcodes.StringToCode(string(errdefs.KindOf(err))), err.Error()
	}
	if s.Code() == mcmcodes.OK || s.Code() > mcmcodes.Uninitialized {
		return mcmcodes.Unknown, s.Message()
	}
	return s.Code(), s.Message()
}

// newStatus makes a status with an ErrorInfo of our domain.
func newStatus(code codes.Code, text, reason string, info map[string]string) *status.Status {
	s := status.New(code, text)
	detailed, err := s.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: PluginName, Metadata: info})
	if err != nil {
		return s // only for the code OK
	}
	return detailed
}

// refusal is an error that the server itself gives, before the driver hears of a call.
func refusal(code codes.Code, text string) error {
	return newStatus(code, text, upperSnake(code.String()), nil).Err()
}

// infoOf is the ErrorInfo of our domain, if s has one.
func infoOf(s *status.Status) *errdetails.ErrorInfo {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == PluginName {
			return info
		}
	}
	return nil
}

// fromGRPC is MCM's code for a status. info is nil unless a driver of ours has
// given the status, and not the transport or a foreign server.
func fromGRPC(s *status.Status) (code mcmcodes.Code, info *errdetails.ErrorInfo) {
	info = infoOf(s)
	switch {
	case info.GetReason() == ReasonUninitialized && s.Code() == codes.FailedPrecondition:
		return mcmcodes.Uninitialized, info
	case s.Code() > codes.Unauthenticated:
		return mcmcodes.Unknown, info
	default:
		return mcmcodes.Code(s.Code()), info
	}
}

// upperSnake writes a code's name as reasons are written: NOT_FOUND.
func upperSnake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}
