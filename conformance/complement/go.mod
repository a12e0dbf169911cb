// Our side of Complement: a deployer that needs no Docker. The suite itself comes through the module proxy.
module koine/conformance/complement

go 1.25.0

require github.com/matrix-org/complement v0.0.0-20260701165844-50044edb68c3
