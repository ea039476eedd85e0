package access

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"berth/pkg/events"
	"berth/pkg/service/config"
)

// Loopback is the name of the silo that callers on this machine are where no silo is configured.
const Loopback = "loopback"

// Guard checks requests: source address, credentials, Host header, and the
// rates of silos and users. It is safe for concurrent use.
type Guard struct {
	policy atomic.Pointer[policy]
	rates  *rates
	open   *open
	now    func() time.Time
}

// New returns a guard for a configuration that is valid. now is the clock that rates are measured by.
func New(cfg config.Config, now func() time.Time) *Guard {
	g := &Guard{rates: newRates(), open: newOpen(), now: now}
	g.Reload(cfg)
	return g
}

// Reload makes later requests be judged by another configuration. Requests under way keep their caller unless they
// ask [Guard.Renew], and silos and users what they have used up of a limit that stays.
func (g *Guard) Reload(cfg config.Config) {
	g.rates.limit(cfg)
	if before := g.policy.Swap(newPolicy(cfg)); before != nil {
		close(before.replaced)
	}
}

// Admit returns who the request comes from, or a *[Denial]. It charges the rate
// of the silo, so it is called once a request.
func (g *Guard) Admit(r *http.Request) (Caller, error) {
	c, err := g.policy.Load().caller(r, g.now())
	if err != nil {
		return Caller{}, err
	}
	if wait := g.rates.silo(c.Silo.Name, g.now()); wait > 0 {
		d := tooOften("the silo "+c.Silo.Name, wait)
		d.Silo, d.Address = c.Silo.Name, c.Address
		return Caller{}, d
	}
	return c, nil
}

// Enter counts a request of an admitted caller, until leave is called. It returns a *[Denial] where the silo has
// as many under way as it may.
func (g *Guard) Enter(c Caller) (leave func(), err error) {
	if !g.open.enter(c.Silo.Name) {
		return nil, &Denial{
			Status: http.StatusTooManyRequests, Reason: events.RateLimited, RetryAfter: openPause, Silo: c.Silo.Name, Address: c.Address,
			Message: "your silo has " + strconv.Itoa(maxRequests) + " requests under way, which is the most; wait for some of them",
		}
	}
	return func() { g.open.leave(c.Silo.Name) }, nil
}

// Renew returns who a request that was admitted comes from by the configuration of now, or a *[Denial]. It charges no rate.
// The channel is closed when the next configuration is in force.
func (g *Guard) Renew(r *http.Request) (c Caller, changed <-chan struct{}, err error) {
	p := g.policy.Load()
	c, err = p.caller(r, g.now())
	return c, p.replaced, err
}

// User charges the rate of a user of the caller's silo, and returns nil if the
// caller may name the user, else a *[Denial]. The user id is valid and of
// bounded length. It is called once a request.
func (g *Guard) User(c Caller, user string) error {
	if wait := g.rates.user(c.Silo.Name, user, g.now()); wait > 0 {
		return tooOften("this user", wait)
	}
	if !c.MayName(user) {
		return &Denial{
			Status: http.StatusForbidden, Reason: events.Forbidden, Foreign: true,
			Message: "your silo does not speak for users of this domain; the site lists those it does in silos[].userDomains",
		}
	}
	return nil
}

// Silo returns the silo of a name as its pods get to know it: the caller's own, or one that the site has
// configured. It is for those who may know them all.
func (g *Guard) Silo(c Caller, name string) (_ events.Silo, known bool) {
	if name == c.Silo.Name {
		return c.Silo, name != ""
	}
	p := g.policy.Load()
	for i := range p.silos {
		if s := &p.silos[i]; s.Name == name {
			return p.known(s, s.DataAddress), true
		}
	}
	return events.Silo{}, false
}

// openPause is when to ask again who has too many requests under way: long polls take seconds.
const openPause = 5 * time.Second

func tooOften(who string, wait time.Duration) *Denial {
	return &Denial{
		Status: http.StatusTooManyRequests, Reason: events.RateLimited, RetryAfter: wait,
		Message: who + " asks too often; wait as long as Retry-After says",
	}
}

// policy is what a configuration says about callers. It is never changed; replaced is closed when another takes its place.
type policy struct {
	silos   []silo
	admin   config.Hash
	proxies []netip.Prefix
	hosts   map[string]bool
	// builtIn is whether callers on this machine are a silo: no other is configured.
	builtIn bool
	config  config.Config
	// tokens says whether any caller could prove who it is by a token.
	tokens   bool
	replaced chan struct{}
}

type silo struct {
	config.Silo
	users users
}

func newPolicy(cfg config.Config) *policy {
	p := &policy{
		admin: cfg.AdminTokenHash, proxies: cfg.TrustedProxies, hosts: map[string]bool{}, builtIn: len(cfg.Silos) == 0,
		config: cfg, tokens: !cfg.AdminTokenHash.IsZero(), replaced: make(chan struct{}),
	}
	for _, s := range cfg.Silos {
		p.silos = append(p.silos, silo{Silo: s, users: usersOf(s.UserDomains)})
		p.tokens = p.tokens || !s.Credentials.TokenHash.IsZero()
	}
	for _, host := range cfg.AllowedHosts {
		p.hosts[strings.ToLower(host)] = true
	}
	return p
}

// proof is what a request brings along to say who it is from.
type proof struct {
	// token and certificate are the hashes of what it has, empty for nothing.
	token, certificate config.Hash
	// expired says that the time of the certificate is over, or has not come.
	expired bool
}

func (p *policy) caller(r *http.Request, now time.Time) (_ Caller, err error) {
	address, err := clientAddress(r, p.proxies)
	defer func() {
		if d, ok := errors.AsType[*Denial](err); ok {
			d.Address = address
		}
	}()
	if err != nil {
		return Caller{}, &Denial{Status: http.StatusBadRequest, Reason: events.RequestInvalid, Message: err.Error()}
	}
	if p.builtIn && !address.IsLoopback() {
		return Caller{}, forbidden("only callers on this machine are served; no silo is known at your address")
	}
	given, err := p.proof(r, now)
	if err != nil {
		return Caller{}, err
	}
	c := Caller{Address: address, Admin: given.token.Same(p.admin)}
	s, proved, err := p.identify(given, address, c.Admin)
	if err != nil {
		return Caller{}, err
	}
	if !proved && !c.Admin && !p.mayCall(r.Host) {
		return Caller{}, forbidden("the Host header must be localhost, an address, or one of the site's allowedHosts: another name could be any web page's")
	}
	c.Projects = c.Admin || s != nil && s.Projects
	if s == nil {
		return c, nil
	}
	c.users = s.users
	c.Silo = p.known(s, address, s.DataAddress)
	return c, nil
}

// known is what the pods of a silo get to know of it, which has addresses.
func (p *policy) known(s *silo, addresses ...netip.Addr) events.Silo {
	k := events.Silo{Name: s.Name, DataAddress: s.DataAddress.String(), HostName: s.HostName}
	for _, address := range addresses {
		if k.HostName == "" {
			k.HostName = p.config.HostnameOf(address)
		}
	}
	return k
}

// identify returns the silo that a request is from, nil for an administrator who is at none, and whether
// the silo has proved who it is.
func (p *policy) identify(given proof, address netip.Addr, admin bool) (s *silo, proved bool, err error) {
	if p.builtIn {
		data := address
		if p.config.TestingHost.IsValid() {
			data = p.config.TestingHost
		}
		// Where no token could be right there is none to be wrong.
		if p.tokens && !given.token.IsZero() && !admin {
			return nil, false, unauthorized("the token is not known")
		}
		return &silo{Silo: config.Silo{Name: Loopback, DataAddress: data, Projects: true}, users: users{all: true}}, false, nil
	}
	recognised, elsewhere, half := "", false, false
	for i := range p.silos {
		s := &p.silos[i]
		token, certificate := s.Credentials.TokenHash.Same(given.token), s.Credentials.CertificateHash.Same(given.certificate)
		if token || certificate {
			recognised = s.Name
		}
		switch {
		case !token && !certificate:
		case !s.Credentials.TokenHash.IsZero() && !token, !s.Credentials.CertificateHash.IsZero() && !certificate:
			half = true
		case !s.at(address):
			elsewhere = true
		case certificate && given.expired:
			return nil, false, unauthorized("the client certificate is not valid at this time").of(recognised)
		default:
			return s, true, nil
		}
	}
	switch {
	case half:
		return nil, false, unauthorized("the silo needs both its token and its client certificate").of(recognised)
	case elsewhere:
		return nil, false, forbidden("no silo with these credentials is known at your address").of(recognised)
	case !given.token.IsZero() && !admin:
		return nil, false, unauthorized("the token is not known")
	}
	for i := range p.silos {
		if s := &p.silos[i]; s.Credentials.None && s.at(address) {
			return s, false, nil
		}
	}
	switch {
	case admin:
		return nil, false, nil
	case p.tokens:
		return nil, false, unauthorized("say who you are: Authorization: Bearer TOKEN")
	default:
		return nil, false, forbidden("no silo is known at your address")
	}
}

// at says whether the silo calls from an address.
func (s *silo) at(address netip.Addr) bool {
	return len(s.SourceNetworks) == 0 || slices.ContainsFunc(s.SourceNetworks, func(n netip.Prefix) bool { return n.Contains(address) })
}

// maxToken bounds the token of a stranger, in bytes.
const maxToken = 1024

// proof reads what a request brings along. Where the site knows no token, one that is given means nothing.
func (p *policy) proof(r *http.Request, now time.Time) (proof, error) {
	var given proof
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		// The handshake has proved that the client has the key.
		certificate := r.TLS.PeerCertificates[0]
		given.certificate = config.Sum(certificate.Raw)
		given.expired = now.Before(certificate.NotBefore) || now.After(certificate.NotAfter)
	}
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 || !p.tokens && p.builtIn {
		return given, nil
	}
	token, err := bearer(headers)
	if err != nil {
		return proof{}, err
	}
	given.token = config.Sum([]byte(token))
	return given, nil
}

// bearer returns the token of the Authorization headers of a request.
func bearer(headers []string) (string, error) {
	if len(headers) > 1 {
		return "", unauthorized("there is more than one Authorization header")
	}
	// https://www.rfc-editor.org/rfc/rfc6750#section-2.1, but the scheme is in any case, and a token of any
	// characters: the site has chosen it.
	scheme, token, found := strings.Cut(headers[0], " ")
	token = strings.Trim(token, " ")
	if !found || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", unauthorized("the Authorization header must be: Bearer TOKEN")
	}
	if len(token) > maxToken {
		return "", unauthorized(fmt.Sprintf("the token is longer than %d bytes", maxToken))
	}
	return token, nil
}

// mayCall says whether a Host header is localhost, an address, or a name that the site allows. A web page
// whose own name is made to point to this machine sends that name (DNS rebinding).
func (p *policy) mayCall(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	host = strings.ToLower(host)
	return err == nil || host == "localhost" || p.hosts[host]
}

func forbidden(message string) *Denial {
	return &Denial{Status: http.StatusForbidden, Reason: events.Forbidden, Message: message}
}

// of notes whose credentials the request has.
func (d *Denial) of(silo string) *Denial {
	d.Silo = silo
	return d
}

func unauthorized(message string) *Denial {
	return &Denial{Status: http.StatusUnauthorized, Reason: events.Unauthorized, Message: message}
}
