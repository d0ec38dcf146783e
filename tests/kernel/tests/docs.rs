//! The pages of `docs/commands` in whole: also what needs root and the running kernel is what they show.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::engine::path_with;
    use seccast_kernel::{kernel, seccast_for_everyone};
    use seccast_pages::{Needs, run, verbs};
    use seccast_rig::engine::Docker;
    use seccast_rig::{Bundle, Engine, process, rootfs};
    use std::process::Command;
    use std::time::Duration;

    /// A docker in which `docker run redis` starts one, as with the image of that name from a registry.
    fn docker_with_redis() -> Docker {
        let docker = Docker::start().unwrap();
        let bundle = Bundle::new(rootfs::redis().unwrap(), ["redis-server"]);
        let image = docker.image(&bundle).unwrap();
        docker
            .call(&["create", "--name", "made", &image, "true"])
            .unwrap();
        let script = r#"docker export made | docker import --change 'CMD ["redis-server"]' - redis && docker rm made"#;
        process::check(
            Command::new("sh")
                .args(["-c", script])
                .env("DOCKER_HOST", docker.host())
                .env("PATH", path_with(&docker)),
            Duration::from_secs(120),
        )
        .unwrap();
        docker
    }

    #[test]
    fn every_page_shows_what_is_printed() {
        let Some(_serial) = kernel() else { return };
        let docker = docker_with_redis();
        let (_folder, seccast) = seccast_for_everyone();
        let (host, path) = (docker.host(), path_with(&docker).into_string().unwrap());
        for verb in verbs() {
            let env = [("DOCKER_HOST", host.as_str()), ("PATH", &path)];
            run(&verb, &seccast, Needs::Root, &env);
        }
    }
}
