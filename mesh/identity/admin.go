package identity

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// adminRoles are the roles that an admin certificate may name; the URI SAN is tern://MESH/role/admin-ROLE.
var adminRoles = []string{"operator", "auditor", "metrics", "app"}

const (
	adminPrefix = "admin-"
	// defaultAdminValid is how long an admin certificate lives if AdminOptions.Valid is zero.
	defaultAdminValid = 90 * 24 * time.Hour
)

// Admin is what a certificate for the admin API says. It names no node, so its holder cannot join the mesh with it.
type Admin struct {
	Name string   // of the holder
	Role string   // operator, auditor, metrics or app
	Apps []string // with role app: the apps that it is limited to
}

// AdminOptions says what an admin certificate states.
type AdminOptions struct {
	Admin
	Valid     time.Duration // zero: 90 days
	NotBefore time.Time     // zero: five minutes ago
}

// IssueAdmin makes a key and a client certificate for the admin API, signed by the CA in caDir: outDir/NAME.key (mode 0600) and
// outDir/NAME.crt.
func IssueAdmin(caDir, outDir string, o AdminOptions) error {
	if err := CheckName("admin's name", o.Name); err != nil {
		return err
	}
	switch {
	case !slices.Contains(adminRoles, o.Role):
		return fmt.Errorf("role %q is not one of %s", o.Role, strings.Join(adminRoles, ", "))
	case (o.Role == "app") != (len(o.Apps) > 0):
		return fmt.Errorf("role app, and no other, needs the apps that it is limited to")
	}
	s, err := LoadSigner(caDir)
	if err != nil {
		return err
	}
	template, err := newTemplate(o.Name, o.NotBefore, cmp.Or(o.Valid, defaultAdminValid))
	if err != nil {
		return err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	template.URIs = []*url.URL{san{mesh: s.mesh, role: adminPrefix + o.Role}.uri()}
	template.Subject.OrganizationalUnit = o.Apps
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key of %s: %w", o.Name, err)
	}
	return s.issue(template, key, outDir, o.Name)
}

// AdminOf reads an admin certificate that TLS has verified against this mesh's CA. It is an error if it names no role, or two,
// or is revoked by its serial number.
func (id *Identity) AdminOf(cert *x509.Certificate) (Admin, error) {
	a := Admin{Name: cert.Subject.CommonName, Apps: cert.Subject.OrganizationalUnit}
	for _, u := range cert.URIs {
		s, err := parseSAN(u)
		role, isAdmin := strings.CutPrefix(s.role, adminPrefix)
		switch {
		case err != nil:
			return Admin{}, err
		case !isAdmin:
		case s.mesh != id.Mesh:
			return Admin{}, fmt.Errorf("%w: it is of %q, this is %q", ErrOtherMesh, s.mesh, id.Mesh)
		case a.Role != "" || !slices.Contains(adminRoles, role):
			return Admin{}, fmt.Errorf("certificate %q names more than one role, or one that is not known", a.Name)
		default:
			a.Role = role
		}
	}
	if a.Role == "" {
		return Admin{}, fmt.Errorf("certificate %q names no role of the admin API", a.Name)
	}
	return a, id.revokedError(Peer{Cert: cert})
}
