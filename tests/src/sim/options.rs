//! What a container's command says: which server, and with which settings.

use elasticache_host::Engine;

/// The program that a container runs, and its arguments; `None` if it is none of the three.
pub(super) fn program<'c>(image: &str, command: &'c [String]) -> Option<(Engine, &'c [String])> {
    match command.split_first() {
        // As the images' entry points do: options alone are options of the image's own program.
        Some((first, args)) if !first.starts_with('-') => {
            let engine = match first.rsplit('/').next()? {
                "redis-server" => Engine::Redis,
                "valkey-server" => Engine::Valkey,
                "memcached" => Engine::Memcached,
                _ => return None,
            };
            Some((engine, args))
        }
        _ => Engine::ALL.into_iter().find(|engine| image.contains(engine.as_str())).map(|e| (e, command)),
    }
}

/// Its settings, as far as they bear on data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) port: u16,
    pub(super) appendonly: bool,
    /// As `CONFIG GET save` shows it; empty for no save points.
    pub(super) save: String,
    pub(super) dir: String,
    pub(super) dbfilename: String,
    pub(super) appenddirname: String,
    pub(super) appendfilename: String,
}

impl Options {
    pub(super) fn parse(engine: Engine, args: &[String]) -> Result<Self, String> {
        let mut options = Options {
            port: if engine == Engine::Memcached { 11211 } else { 6379 },
            appendonly: false,
            save: "3600 1 300 100 60 10000".into(),
            dir: "/data".into(),
            dbfilename: "dump.rdb".into(),
            appenddirname: "appendonlydir".into(),
            appendfilename: "appendonly.aof".into(),
        };
        let mut args = args.iter().map(String::as_str).peekable();
        while let Some(name) = args.next() {
            let mut values = Vec::new();
            while let Some(value) = args.next_if(|value| !value.starts_with('-')) {
                values.push(value);
            }
            let value = values.join(" ");
            match name {
                "--port" | "-p" => {
                    options.port = value.parse().map_err(|_| format!("Invalid port {value:?}"))?
                }
                "--appendonly" => {
                    options.appendonly = yes_or_no(&value).ok_or("argument must be 'yes' or 'no'")?;
                }
                "--save" => options.save = value,
                "--dir" => options.dir = value,
                "--dbfilename" => options.dbfilename = value,
                "--appenddirname" => options.appenddirname = value,
                "--appendfilename" => options.appendfilename = value,
                // What does not bear on data is taken and forgotten.
                _ => {}
            }
        }
        Ok(options)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        Some(match name {
            "appendonly" if self.appendonly => "yes",
            "appendonly" => "no",
            "save" => &self.save,
            "dir" => &self.dir,
            "dbfilename" => &self.dbfilename,
            "appenddirname" => &self.appenddirname,
            "appendfilename" => &self.appendfilename,
            _ => return None,
        })
    }
}

pub(super) fn yes_or_no(text: &str) -> Option<bool> {
    match text {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        line.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_program_comes_from_the_command_or_else_from_the_image() {
        let engine = |image, command: &[&str]| program(image, &words(command)).map(|(engine, _)| engine);
        assert_eq!(engine("x", &["/usr/bin/valkey-server", "--save", ""]), Some(Engine::Valkey));
        assert_eq!(engine("redis:7-alpine", &["--appendonly", "yes"]), Some(Engine::Redis));
        assert_eq!(engine("memcached:1.6-alpine", &[]), Some(Engine::Memcached));
        assert_eq!(engine("redis:7-alpine", &["sleep", "1"]), None);
    }

    #[test]
    fn options_are_read_in_all_their_forms() {
        let parse = |line: &[&str]| Options::parse(Engine::Redis, &words(line));
        let options = parse(&["--appendonly", "yes", "--save", "", "--dbfilename", "x.rdb"]).unwrap();
        assert_eq!((options.appendonly, options.save.as_str()), (true, ""));
        assert_eq!(options.dbfilename, "x.rdb");
        let options = parse(&["conf", "--save", "60", "1", "--maxmemory", "1mb", "--port", "7000"]).unwrap();
        assert_eq!((options.save.as_str(), options.port), ("60 1", 7000));
        assert!(!parse(&[]).unwrap().save.is_empty());
        assert!(parse(&["--appendonly", "maybe"]).is_err());
    }
}
