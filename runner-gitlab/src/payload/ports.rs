//! The ports that people may reach through a session.

use runner_core::session::{PortScheme, SessionPort};

use super::model::{Image, Payload, Port};

/// Most ports of one job: they are part of its ticket, which is small.
const MOST: usize = 100;

/// By GitLab Runner's names: a service's aliases, else `proxy-<container>`; `build` for the job's
/// own image.
pub(super) fn ports(payload: &Payload) -> Vec<SessionPort> {
    let services = payload.services.iter().filter(|service| !service.name.is_empty());
    let services = services.enumerate().map(|(index, service)| {
        let aliases: Vec<&str> =
            service.alias.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let names = match aliases.is_empty() {
            true => vec![format!("proxy-svc-{index}")],
            false => aliases.into_iter().map(str::to_owned).collect(),
        };
        (names, service)
    });
    let build = std::iter::once((vec!["build".to_owned()], &payload.image));
    build.chain(services).flat_map(|(names, image)| of(names, image)).take(MOST).collect()
}

fn of(names: Vec<String>, image: &Image) -> impl Iterator<Item = SessionPort> {
    names.into_iter().flat_map(move |host| {
        image.ports.iter().map(move |port| {
            let Port { number, name, protocol } = port;
            let scheme = match protocol.eq_ignore_ascii_case("https") {
                true => PortScheme::Https,
                false => PortScheme::Http,
            };
            SessionPort { host: host.clone(), number: *number, name: name.clone(), scheme }
        })
    })
}

#[cfg(test)]
mod tests {
    use runner_core::session::PortScheme;
    use serde_json::json;

    #[test]
    fn ports_are_called_by_aliases_or_containers() {
        let payload = json!({
            "id": 1, "token": "t",
            "image": {"name": "a", "ports": [{"number": 80, "protocol": "http", "name": "web"}]},
            "services": [
                {"name": "b", "alias": "db,other", "ports": [{"number": 5, "protocol": "https"}]},
                {"name": "c", "ports": [{"number": 6}]},
                {"name": "d"},
            ],
        });
        let ports = super::super::parse(payload.to_string().as_bytes()).unwrap().ports;
        let names: Vec<_> = ports.iter().map(|it| (it.host.as_str(), it.number)).collect();
        assert_eq!(names, [("build", 80), ("db", 5), ("other", 5), ("proxy-svc-1", 6)]);
        assert_eq!((ports[0].name.as_str(), ports[1].scheme), ("web", PortScheme::Https));
    }
}
