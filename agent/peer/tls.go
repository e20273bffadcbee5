package peer

import (
	"crypto/tls"
	"errors"
	"slices"
)

// serverTLS answers each ClientHello with the configuration of the protocol that
// it offers. Sessions are never resumed: each connection shows its certificate
// and is judged by the roster of the moment.
func serverTLS(cfg Config) *tls.Config {
	certificate := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cfg.Credentials.Certificate() }
	api := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{"h2", "http/1.1"},
		GetCertificate:         certificate,
		SessionTicketsDisabled: true,
	}
	mesh := func(protocol string, check func(*rosterView, presented) error) *tls.Config {
		return &tls.Config{
			MinVersion:             tls.VersionTLS13,
			NextProtos:             []string{protocol},
			GetCertificate:         certificate,
			SessionTicketsDisabled: true,
			// Any certificate, because an expired one may still renew:
			// VerifyConnection does all of the checking.
			ClientAuth: tls.RequireAnyClientCert,
			VerifyConnection: func(state tls.ConnectionState) error {
				if state.NegotiatedProtocol != protocol {
					return errors.New("no protocol was agreed on")
				}
				p, err := present(cfg.Credentials.CA(), cfg.Gate.meshID, state.PeerCertificates, cfg.now())
				if err != nil {
					return err
				}
				return check(cfg.Gate.view.Load(), p)
			},
		}
	}
	peers := mesh(protocolPeer, mayConnect)
	raft := mesh(protocolRaft, mayStream)
	return &tls.Config{
		MinVersion:             tls.VersionTLS12,
		GetCertificate:         certificate,
		SessionTicketsDisabled: true,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			switch {
			case slices.Contains(hello.SupportedProtos, protocolPeer):
				return peers, nil
			case slices.Contains(hello.SupportedProtos, protocolRaft):
				return raft, nil
			default:
				return api, nil
			}
		},
	}
}

// clientTLS shows this node's certificate and believes a server that check
// accepts.
func clientTLS(cfg Config, protocol string, check func(*rosterView, presented) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{protocol},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return cfg.Credentials.Certificate()
		},
		// Nodes are known by id and key, not by the address they answer at, and an
		// expired certificate may do for some purposes: VerifyConnection does all
		// of the checking.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.NegotiatedProtocol != protocol {
				return errors.New("the server does not speak " + protocol)
			}
			p, err := present(cfg.Credentials.CA(), cfg.Gate.meshID, state.PeerCertificates, cfg.now())
			if err != nil {
				return err
			}
			return check(cfg.Gate.view.Load(), p)
		},
	}
}
