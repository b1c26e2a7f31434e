// Compose-config reads the Compose files of the folder that it is started in, with its .env, by the library that Docker
// Compose reads them by, and writes as JSON what they say together. Tests build it for themselves.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write() error {
	// In the order of `docker compose config`: COMPOSE_FILE may stand in .env.
	options, err := cli.NewProjectOptions(os.Args[1:],
		cli.WithOsEnv,
		cli.WithEnvFiles(),
		cli.WithDotEnv,
		cli.WithConfigFileEnv,
		cli.WithDefaultConfigPath,
	)
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	said, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(said)
	return err
}
