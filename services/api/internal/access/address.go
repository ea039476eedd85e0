package access

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

var errForwarded = errors.New("X-Forwarded-For must be a list of IP addresses")

// clientAddress returns the address of the client that a request is from. X-Forwarded-For is read only
// where the peer is a trusted proxy, and only as far as those who wrote it are: from the right to the
// first address that is no proxy's. What is left of that anybody can have written.
//
// The address is invalid where the request is from none. An error is for the client.
func clientAddress(r *http.Request, proxies []netip.Prefix) (netip.Addr, error) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, nil //nolint:nilerr // A listener that has no addresses has no clients that are known.
	}
	address := plain(peer.Addr())
	headers := r.Header.Values("X-Forwarded-For")
	for _, header := range slices.Backward(headers) {
		for {
			if !trusted(address, proxies) {
				return address, nil
			}
			last := strings.LastIndexByte(header, ',')
			if address, err = forwarded(header[last+1:]); err != nil {
				return netip.Addr{}, err
			}
			if last < 0 {
				break
			}
			header = header[:last]
		}
	}
	return address, nil
}

// forwarded reads one entry of X-Forwarded-For: an address, which some proxies write with a port.
func forwarded(entry string) (netip.Addr, error) {
	entry = strings.Trim(entry, " \t")
	if withPort, err := netip.ParseAddrPort(entry); err == nil {
		return plain(withPort.Addr()), nil
	}
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]"))
	if err != nil {
		return netip.Addr{}, errForwarded
	}
	return plain(address), nil
}

func trusted(address netip.Addr, proxies []netip.Prefix) bool {
	return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(address) })
}

// plain returns an address in its one form, without a zone.
func plain(address netip.Addr) netip.Addr { return address.Unmap().WithZone("") }
