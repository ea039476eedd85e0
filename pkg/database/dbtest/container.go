package dbtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	// image is the server of a container.
	image = "postgres:17-alpine"
	// engineTimeout is for the question whether there is an engine, pullTimeout for the image and the start.
	engineTimeout = 3 * time.Second
	pullTimeout   = 5 * time.Minute
	user          = "postgres" // Not berth: a role finds tables in the schema of its name first.
	password      = "berth"
	port          = "5432/tcp"
)

var errNoDocker = errors.New("no Docker engine answers")

// container starts a server in a container. Where no engine answers it fails with errNoDocker.
func container(ctx context.Context) (address string, stop func() error, err error) {
	if err := engine(ctx); err != nil {
		return "", nil, fmt.Errorf("%w: %w", errNoDocker, err)
	}
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	c, err := testcontainers.Run(ctx, image,
		testcontainers.WithEnv(map[string]string{"POSTGRES_USER": user, "POSTGRES_PASSWORD": password, "POSTGRES_DB": "postgres"}),
		testcontainers.WithCmd("postgres", "-c", "max_connections=300", "-c", "fsync=off"),
		testcontainers.WithExposedPorts(port),
		// The image starts the server once to set it up, and then for good.
		testcontainers.WithWaitStrategyAndDeadline(pullTimeout,
			wait.ForLog("database system is ready to accept connections").WithOccurrence(2), wait.ForListeningPort(port)),
	)
	stop = func() error { return testcontainers.TerminateContainer(c) }
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("start PostgreSQL in a container: %w", err), stop())
	}
	host, err := c.PortEndpoint(ctx, port, "")
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("find PostgreSQL in its container: %w", err), stop())
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: host, Path: "postgres"}
	return u.String(), stop, nil
}

// engine returns nil where a Docker engine answers.
func engine(ctx context.Context) (err error) {
	// Looking for an engine ends in a panic where its settings make no sense.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("look for an engine: %v", r)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return err
	}
	return errors.Join(provider.Health(ctx), provider.Close())
}
