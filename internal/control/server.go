package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/peercred"
)

// Backend is the instance that a server serves.
type Backend interface {
	// State returns the instance's state; its forwards may be missing.
	State() instance.State
	// Forwards returns the manager of the forwards.
	Forwards() *hostfwd.Manager
	// PortDriverExtra returns the extra information of RootlessKit's port driver; nil for other handlers.
	PortDriverExtra() map[string]string
	// Down asks the instance to stop, with grace between SIGTERM and SIGKILL for COMMAND; it does not wait.
	Down(grace time.Duration)
	// Traffic returns the traffic counters of the tap.
	Traffic() (instance.Traffic, error)
	// Egress returns who decides about what leaves; nil where nobody does.
	Egress() *Egress
}

// Limits of a request.
const (
	maxBody   = 32 << 20 // enough for 65,535 forwards with the longest addresses
	maxSpec   = 64 << 10 // for RootlessKit's routes, which take one forward
	maxHeader = 16 << 10
	// Time for the header; for the rest of the request; for the request and the answer; between requests.
	headerTime, requestTime, answerTime, idleTime = 5 * time.Second, 30 * time.Second, 10 * time.Minute, time.Minute
)

// Server serves one instance's control socket.
type Server struct {
	http *http.Server
	done chan struct{}
}

// Serve listens on the socket path, which only this user and root may use, and serves b.
func Serve(path string, b Backend) (*Server, error) {
	_ = os.Remove(path)
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	own, err := ownNamespaces()
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	addRootlessKitRoutes(mux, b)
	addRoutes(mux, b)
	s := &Server{
		http: &http.Server{
			Handler: guard(mux), ErrorLog: log.New(io.Discard, "", 0), MaxHeaderBytes: maxHeader,
			ReadHeaderTimeout: headerTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
			ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				u := c.(*net.UnixConn)
				return context.WithValue(ctx, peerKey{}, &peer{u, own.check(u)})
			},
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(ownListener{ln.(*net.UnixListener)})
	}()
	return s, nil
}

// Close stops serving. Pending requests may finish until ctx is done.
func (s *Server) Close(ctx context.Context) {
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	<-s.done
}

// ownListener closes connections from other users.
type ownListener struct{ *net.UnixListener }

func (l ownListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if cred, err := peercred.Get(c); err == nil && (cred.Uid == uint32(os.Geteuid()) || cred.Uid == 0) {
			return c, nil
		}
		c.Close()
	}
}

// route answers a request with something that is encoded as JSON.
type route func(r *http.Request) (any, error)

func addRoutes(mux *http.ServeMux, b Backend) {
	handle := func(pattern string, f route) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			out, err := f(r)
			if err != nil {
				out = NewError(err)
				w.WriteHeader(http.StatusBadRequest)
			}
			_ = json.NewEncoder(w).Encode(out)
		})
	}
	change := func(f func(ctx context.Context, fs []hostfwd.Forward) ([]hostfwd.Status, error)) route {
		return func(r *http.Request) (any, error) {
			fs, err := decode[[]hostfwd.Forward](r)
			if err != nil {
				return nil, err
			}
			return f(r.Context(), fs)
		}
	}
	handle("GET "+prefix+"/state", func(*http.Request) (any, error) {
		st := b.State()
		st.Ports = b.Forwards().List()
		return st, nil
	})
	handle("GET "+prefix+"/forwards", func(*http.Request) (any, error) { return b.Forwards().List(), nil })
	handle("POST "+prefix+"/forwards", change(b.Forwards().Add))
	handle("PUT "+prefix+"/forwards", change(b.Forwards().Set))
	handle("DELETE "+prefix+"/forwards", func(r *http.Request) (any, error) {
		ids, err := decode[[]int](r)
		if err != nil {
			return nil, err
		}
		return struct{}{}, b.Forwards().Remove(r.Context(), ids)
	})
	handle("POST "+prefix+"/reload", func(r *http.Request) (any, error) {
		in, err := decode[reloadRequest](r)
		if err == nil {
			err = b.Forwards().Reload(r.Context(), in.GuestIP)
		}
		return b.Forwards().List(), err
	})
	addEgressRoutes(handle, b)
	handle("GET "+prefix+"/traffic", func(*http.Request) (any, error) { return b.Traffic() })
	handle("POST "+prefix+"/down", func(r *http.Request) (any, error) {
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		grace := DefaultGrace
		if r.ContentLength != 0 {
			req, err := decode[downRequest](r)
			if err != nil {
				return nil, err
			}
			if req.Grace != nil {
				grace = max(0, *req.Grace)
			}
		}
		b.Down(grace)
		return struct{}{}, nil
	})
}

func decode[T any](r *http.Request) (v T, err error) {
	if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("bad request: %w", err)
	}
	return v, nil
}

// parseAddr reads an address of RootlessKit's API, where "" means none.
func parseAddr(s, what string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%s: %w", what, err)
	}
	return a, nil
}
