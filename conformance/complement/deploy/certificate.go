package deploy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/matrix-org/complement/config"
)

// Certificate is what a server shows to others, and whom it believes. All files are PEM.
type Certificate struct {
	Chain     string // of the server itself, for its name, localhost and 127.0.0.1
	Key       string // its private key
	Authority string // the suite's own authority: the servers of its tests show certificates of it, too
}

// certify makes a certificate for a server by the suite's authority and puts it into dir.
func certify(cfg *config.Complement, dir, name string) (Certificate, error) {
	files := Certificate{
		Chain:     filepath.Join(dir, "server.crt"),
		Key:       filepath.Join(dir, "server.key"),
		Authority: filepath.Join(dir, "authority.crt"),
	}
	authority, err := cfg.CACertificateBytes()
	if err != nil {
		return files, err
	}
	if err := os.WriteFile(files.Authority, authority, 0o600); err != nil {
		return files, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return files, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return files, err
	}
	template := x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{"localhost", name},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	chain, err := x509.CreateCertificate(rand.Reader, &template, cfg.CACertificate, &key.PublicKey, cfg.CAPrivateKey)
	if err != nil {
		return files, err
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return files, err
	}
	if err := os.WriteFile(files.Chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain}), 0o600); err != nil {
		return files, err
	}
	return files, os.WriteFile(files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes}), 0o600)
}
