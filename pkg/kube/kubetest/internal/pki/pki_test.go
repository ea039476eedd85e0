package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"
)

func TestCertificates(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ca, err := NewCA(now)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.Cert()) {
		t.Fatal("the CA's certificate is none")
	}
	server, err := ca.Server(now, "server", "kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"127.0.0.1", "::1", "localhost", "kubernetes"} {
		if _, err := leaf(t, server).Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now}); err != nil {
			t.Errorf("server as %s: %v", name, err)
		}
	}
	if _, err := leaf(t, server).Verify(x509.VerifyOptions{Roots: roots, DNSName: "example.test", CurrentTime: now}); err == nil {
		t.Error("the server's certificate is good for any name")
	}
	client, err := ca.Client(now, "alice", "admins")
	if err != nil {
		t.Fatal(err)
	}
	cert := leaf(t, client)
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: usages, CurrentTime: now}); err != nil {
		t.Errorf("client: %v", err)
	}
	if cert.Subject.CommonName != "alice" || len(cert.Subject.Organization) != 1 || cert.Subject.Organization[0] != "admins" {
		t.Errorf("client is %s, want user alice in group admins", cert.Subject)
	}
	if leaf(t, server).SerialNumber.Cmp(cert.SerialNumber) == 0 {
		t.Error("two certificates have the same serial number")
	}
}

func TestSigningKey(t *testing.T) {
	t.Parallel()
	pair, err := SigningKey()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pair.Cert)
	if block == nil || block.Type != "PUBLIC KEY" {
		t.Errorf("public key: %v", block)
	}
}

func leaf(t *testing.T, pair Pair) *x509.Certificate {
	t.Helper()
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf
}
