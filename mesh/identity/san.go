package identity

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const (
	sanScheme = "tern"
	roleVoter = "voter"
	roleCA    = "ca"
)

// san is one parsed URI SAN: a node (region and node set) or a role.
type san struct {
	mesh, region, node string
	role               string // set: region and node are empty
}

// uri is the inverse of parseSAN.
func (s san) uri() *url.URL {
	path := "/" + s.region + "/" + s.node
	if s.role != "" {
		path = "/" + reservedRegion + "/" + s.role
	}
	return &url.URL{Scheme: sanScheme, Host: s.mesh, Path: path}
}

// parseSAN reads one URI SAN. It is strict, one spelling per meaning: no port, user, query, fragment or percent-encoding,
// so that two nodes can never disagree about whose certificate it is.
func parseSAN(u *url.URL) (san, error) {
	rest, ok := strings.CutPrefix(u.String(), sanScheme+"://")
	if !ok {
		return san{}, fmt.Errorf("URI %.100q does not start with %s://", u.String(), sanScheme)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return san{}, fmt.Errorf("URI %.100q is not %s://MESH/REGION/NODE", u.String(), sanScheme)
	}
	s := san{mesh: parts[0], region: parts[1], node: parts[2]}
	if err := CheckName("mesh name", s.mesh); err != nil {
		return san{}, err
	}
	if s.region == reservedRegion {
		return san{mesh: s.mesh, role: s.node}, CheckName("role", s.node)
	}
	return s, errors.Join(CheckRegion(s.region), CheckName("node name", s.node))
}

// peerFromURIs reads all URI SANs of a node certificate: exactly one names the node, the others are roles in the same
// mesh. Roles that this version does not know are ignored, so that later versions may add some.
func peerFromURIs(uris []*url.URL) (Peer, error) {
	var p Peer
	voterOf := make([]string, 0, 1)
	for _, u := range uris {
		s, err := parseSAN(u)
		switch {
		case err != nil:
			return Peer{}, err
		case s.role == roleVoter:
			voterOf = append(voterOf, s.mesh)
		case s.role != "":
		case p.Node != "":
			return Peer{}, fmt.Errorf("certificate names two nodes, %q and %q", p.Node, s.node)
		default:
			p = Peer{Mesh: s.mesh, Region: s.region, Node: s.node}
		}
	}
	if p.Node == "" {
		return Peer{}, fmt.Errorf("certificate has no URI %s://MESH/REGION/NODE: it is not a node certificate", sanScheme)
	}
	for _, mesh := range voterOf {
		if mesh != p.Mesh {
			return Peer{}, fmt.Errorf("certificate of mesh %q claims a role in mesh %q", p.Mesh, mesh)
		}
		p.Voter = true
	}
	return p, nil
}

// meshOfCA reads the mesh name from the URI SANs of a CA certificate.
func meshOfCA(uris []*url.URL) (string, error) {
	for _, u := range uris {
		if s, err := parseSAN(u); err == nil && s.role == roleCA {
			return s.mesh, nil
		}
	}
	return "", fmt.Errorf("certificate has no URI %s://MESH/%s/%s: it is not a mesh's CA", sanScheme, reservedRegion, roleCA)
}
