package deploy

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
)

// Ports of one server: neighbours, because koine counts from a base.
type Ports struct {
	Client     int // client-server API, plain HTTP
	Federation int // federation, TLS
}

// A server takes a block of this many ports from its base on.
const portsPerServer = 11

var (
	portsMu  sync.Mutex
	portNext int
)

// reservePorts hands out a block of ports that nobody listens on. Several test binaries run side by side, so each begins
// at a place of its own and checks; below the range from which the kernel takes ports for outgoing connections.
func reservePorts() (Ports, error) {
	const first, last = 12000, 31000
	portsMu.Lock()
	defer portsMu.Unlock()
	if portNext == 0 {
		portNext = first + (processSlot()*1600)%(last-first)
	}
	for tries := 0; tries < (last-first)/portsPerServer; tries++ {
		base := portNext
		portNext += portsPerServer
		if portNext > last {
			portNext = first
		}
		if allFree(base) {
			return Ports{Client: base, Federation: base + 1}, nil
		}
	}
	return Ports{}, fmt.Errorf("no free block of %d ports between %d and %d", portsPerServer, first, last)
}

func allFree(base int) bool {
	for port := base; port < base+portsPerServer; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// localpartOf takes the part between @ and the first colon of a user id.
func localpartOf(userID string) (string, error) {
	localpart, _, ok := strings.Cut(strings.TrimPrefix(userID, "@"), ":")
	if !ok || !strings.HasPrefix(userID, "@") {
		return "", fmt.Errorf("%q is not a user id", userID)
	}
	return localpart, nil
}

// roundTripper sends requests for a server of the deployment to that server's federation port.
type roundTripper struct {
	d     *deployment
	inner *http.Transport
}

func newRoundTripper(d *deployment) http.RoundTripper {
	// Names and certificates of servers on loopback prove nothing; the tests are about what is said.
	insecure := &tls.Config{InsecureSkipVerify: true}
	return &roundTripper{d: d, inner: &http.Transport{TLSClientConfig: insecure}}
}

func (r *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if srv, ours := r.d.servers[req.URL.Host]; ours {
		req = req.Clone(req.Context())
		req.Host = srv.place.Name
		req.URL.Scheme = "https"
		req.URL.Host = fmt.Sprintf("127.0.0.1:%d", srv.place.Ports.Federation)
	} else if req.URL.Scheme == "matrix" {
		// A server of the suite's own talks to another one: the name says where it is.
		req = req.Clone(req.Context())
		req.URL.Scheme = "https"
	}
	return r.inner.RoundTrip(req)
}
