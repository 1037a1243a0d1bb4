// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"reflect"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/xml"
)

// garbledError is that there was an answer which is no SOAP, or none to that call: one
// that was cut off, a proxy's page, bytes that came from elsewhere.
type garbledError struct {
	method string
	err    error
}

// Error says so.
func (e *garbledError) Error() string {
	return "the answer to " + e.method + " cannot be understood: " + e.err.Error()
}

// Unwrap returns what the decoder said.
func (e *garbledError) Unwrap() error { return e.err }

// understood is the layer that tells answers which cannot be understood from all other
// failures. govmomi's errors of decoding are of many types, and an answer without content is
// none to it, although its callers look into the content.
func understood(next soap.RoundTripper) soap.RoundTripper {
	return roundTripFunc(func(ctx context.Context, req, res soap.HasFault) error {
		err := next.RoundTrip(ctx, req, res)
		switch {
		case err == nil && empty(res):
			err = errors.New("it has no content")
		case err == nil, soap.IsSoapFault(err), soap.IsVimFault(err), ctx.Err() != nil, isNetwork(err):
			return err
		}
		return &garbledError{Method(req), err}
	})
}

// isNetwork reports that there was no answer, or an error of HTTP.
func isNetwork(err error) bool {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return true
	}
	_, ok := errors.AsType[net.Error](err)
	return ok
}

// empty reports that an answer lacks what the method returns.
func empty(res soap.HasFault) bool {
	body := reflect.Indirect(reflect.ValueOf(res))
	if body.Kind() != reflect.Struct {
		return false
	}
	content := body.FieldByName("Res")
	return content.IsValid() && content.Kind() == reflect.Pointer && content.IsNil() && content.Type().Elem().NumField() > 0
}

// isGarbled reports that an answer was cut off or is none to the call.
func isGarbled(err error) bool {
	if _, ok := errors.AsType[*garbledError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*xml.SyntaxError](err); ok {
		return true
	}
	if _, ok := errors.AsType[xml.UnmarshalError](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
