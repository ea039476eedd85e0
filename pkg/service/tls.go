package service

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"
)

// Certificate is the certificate of a TLS listener, which can be replaced while it is in use. It is safe
// for concurrent use.
type Certificate struct {
	pair atomic.Pointer[tls.Certificate]
}

// LoadCertificate reads a certificate with its chain, and its key, from two PEM files. The error names
// the files, not what is in them.
func LoadCertificate(certificateFile, keyFile string) (*Certificate, error) {
	c := &Certificate{}
	return c, c.Reload(certificateFile, keyFile)
}

// Reload reads the files again. Connections that are made afterwards get the new certificate; with an error it stays
// as it was.
func (c *Certificate) Reload(certificateFile, keyFile string) error {
	pair, err := tls.LoadX509KeyPair(certificateFile, keyFile)
	if err != nil {
		return fmt.Errorf("load certificate %s with key %s: %w", certificateFile, keyFile, err)
	}
	c.pair.Store(&pair)
	return nil
}

// config is that of a listener that asks clients for a certificate, and takes one by anybody: a
// client that shows one has proved to have its key, and is known by its hash.
func (c *Certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		ClientAuth:     tls.RequestClientCert,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil },
	}
}
