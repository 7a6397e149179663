//! `[runners.cache]`, checked. A cache that cannot be used is a warning: jobs run without it.

use runner_cache::{
    AzureSettings, Bucket, CacheSettings, Encryption, GcsLogin, GcsSettings, S3Login, S3Settings,
};
use runner_core::secret::Secret;

use super::raw_cache::{RawAzure, RawCache, RawGcs, RawS3};

/// What `Type` may say.
const TYPES: &[&str] = &["s3", "gcs", "azure"];

/// Reads it; `say` takes a key and what is wrong with it. `None`: there is no cache server.
pub(super) fn read(raw: RawCache, mut say: impl FnMut(&str, String)) -> Option<CacheSettings> {
    let kind = raw.kind.unwrap_or_default();
    let bucket = match kind.to_ascii_lowercase().as_str() {
        "" => return None,
        "s3" => s3(raw.s3.unwrap_or_default(), &mut say).map(Bucket::S3),
        "gcs" => gcs(raw.gcs.unwrap_or_default(), &mut say).map(Bucket::Gcs),
        "azure" => azure(raw.azure.unwrap_or_default(), &mut say).map(Bucket::Azure),
        other => {
            let message =
                format!("\"{other}\" is none of {}; caches stay in the pods", TYPES.join(", "));
            say("cache.Type", message);
            None
        }
    }?;
    let limit = raw.max_uploaded_archive_size.unwrap_or(0);
    if limit < 0 {
        let message = format!("{limit} counts as 0, no limit; write 0 or more");
        say("cache.MaxUploadedArchiveSize", message);
    }
    Some(CacheSettings {
        path: raw.path.unwrap_or_default(),
        shared: raw.shared.unwrap_or(false),
        short_token: String::new(),
        grant_key: Secret::default(),
        max_archive: u64::try_from(limit).unwrap_or(0),
        bucket,
    })
}

fn s3(raw: RawS3, say: &mut impl FnMut(&str, String)) -> Option<S3Settings> {
    let bucket = named(raw.bucket_name, "cache.s3.BucketName", say)?;
    let server = text(raw.server_address).unwrap_or_default();
    let (access, secret) = (key(raw.access_key), key(raw.secret_key));
    let complete = !server.is_empty() && access.is_some() && secret.is_some();
    let login = match (raw.authentication_type.as_deref().unwrap_or_default(), access.zip(secret)) {
        ("iam", _) => S3Login::Iam,
        ("", _) if !complete => S3Login::Iam,
        (_, Some((access, secret))) => {
            S3Login::Key { access, secret, session: key(raw.session_token) }
        }
        (_, None) => {
            let message = "needs AccessKey and SecretKey; caches stay in the pods";
            say("cache.s3.AuthenticationType", message.to_owned());
            return None;
        }
    };
    let id = text(raw.server_side_encryption_key_id);
    let encryption = match text(raw.server_side_encryption).unwrap_or_default().as_str() {
        "" => None,
        "S3" | "AES256" => Some(Encryption::S3),
        "KMS" | "aws:kms" => Some(Encryption::Kms(id)),
        "DSSE-KMS" | "aws:kms:dsse" => Some(Encryption::DsseKms(id)),
        other => {
            let message = format!(
                "\"{other}\" is none of S3, KMS, DSSE-KMS; objects get the bucket's own encryption"
            );
            say("cache.s3.ServerSideEncryption", message);
            None
        }
    };
    Some(S3Settings {
        server,
        insecure: raw.insecure.unwrap_or(false),
        bucket,
        region: text(raw.bucket_location),
        login,
        encryption,
        dual_stack: raw.dual_stack.unwrap_or(true),
        path_style: raw.path_style,
        accelerate: raw.accelerate.unwrap_or(false),
        role: text(raw.role_arn),
        upload_role: text(raw.upload_role_arn),
    })
}

fn gcs(raw: RawGcs, say: &mut impl FnMut(&str, String)) -> Option<GcsSettings> {
    let bucket = named(raw.bucket_name, "cache.gcs.BucketName", say)?;
    let login = match (text(raw.credentials_file), text(raw.access_id), key(raw.private_key)) {
        (Some(file), _, _) => GcsLogin::File(file),
        (None, Some(email), Some(key)) => GcsLogin::Key { email, key },
        (None, None, None) => GcsLogin::Default,
        (None, _, _) => {
            let message = "AccessID and PrivateKey only work together; caches stay in the pods";
            say("cache.gcs", message.to_owned());
            return None;
        }
    };
    let universe = text(raw.universe_domain).unwrap_or_else(|| "googleapis.com".to_owned());
    Some(GcsSettings { bucket, login, universe })
}

fn azure(raw: RawAzure, say: &mut impl FnMut(&str, String)) -> Option<AzureSettings> {
    let account = named(raw.account_name, "cache.azure.AccountName", say);
    let container = named(raw.container_name, "cache.azure.ContainerName", say);
    let domain = text(raw.storage_domain).unwrap_or_else(|| "blob.core.windows.net".to_owned());
    Some(AzureSettings {
        account: account?,
        key: key(raw.account_key),
        container: container?,
        domain,
    })
}

fn named(value: Option<String>, name: &str, say: &mut impl FnMut(&str, String)) -> Option<String> {
    let value = text(value);
    if value.is_none() {
        say(name, "is missing; caches stay in the pods".to_owned());
    }
    value
}

fn text(value: Option<String>) -> Option<String> {
    value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn key(value: Option<Secret>) -> Option<Secret> {
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use runner_cache::{Bucket, CacheSettings, Encryption, GcsLogin, S3Login};

    use super::super::raw_cache::RawCache;

    fn read(text: &str) -> (Option<CacheSettings>, Vec<String>) {
        let raw: RawCache = toml::from_str(text).unwrap();
        let mut said = Vec::new();
        let cache = super::read(raw, |key, message| said.push(format!("{key}: {message}")));
        (cache, said)
    }

    #[test]
    fn the_documented_s3_example_is_understood() {
        let (cache, said) = read(
            r#"
            Type = "s3"
            Path = "path/to/prefix"
            Shared = false
            MaxUploadedArchiveSize = 100
            [s3]
              ServerAddress = "minio.example:9000"
              AccessKey = "AMAZON_S3_ACCESS_KEY"
              SecretKey = "AMAZON_S3_SECRET_KEY"
              BucketName = "runners-cache"
              BucketLocation = "eu-west-1"
              Insecure = true
              ServerSideEncryption = "KMS"
              ServerSideEncryptionKeyID = "alias/my-key"
            "#,
        );
        let cache = cache.unwrap();
        assert!(said.is_empty(), "{said:?}");
        assert_eq!((cache.path.as_str(), cache.max_archive), ("path/to/prefix", 100));
        let Bucket::S3(s3) = cache.bucket else { panic!() };
        assert!(s3.insecure && s3.dual_stack && s3.path_style.is_none());
        assert!(matches!(s3.login, S3Login::Key { session: None, .. }));
        assert_eq!(s3.encryption, Some(Encryption::Kms(Some("alias/my-key".into()))));
    }

    #[test]
    fn who_asks_follows_from_what_there_is() {
        let s3 = |keys: &str| {
            let (cache, said) = read(&format!("Type = \"s3\"\n[s3]\nBucketName = \"b\"\n{keys}"));
            cache.map(|cache| match cache.bucket {
                Bucket::S3(s3) => s3.login,
                _ => unreachable!("{said:?}"),
            })
        };
        let keys = "AccessKey = \"a\"\nSecretKey = \"s\"\n";
        assert_eq!(s3(""), Some(S3Login::Iam));
        // GitLab Runner's rule: keys alone do not count without a server.
        assert_eq!(s3(keys), Some(S3Login::Iam));
        assert!(matches!(s3(&format!("{keys}ServerAddress = \"m\"")), Some(S3Login::Key { .. })));
        let access_key = format!("{keys}AuthenticationType = \"access-key\"");
        assert!(matches!(s3(&access_key), Some(S3Login::Key { .. })));
        let iam = format!("{keys}ServerAddress = \"m\"\nAuthenticationType = \"iam\"");
        assert_eq!(s3(&iam), Some(S3Login::Iam));
        assert_eq!(s3("AuthenticationType = \"access-key\""), None);

        let (cache, _) = read("Type = \"gcs\"\n[gcs]\nBucketName = \"b\"");
        let Bucket::Gcs(gcs) = cache.unwrap().bucket else { panic!() };
        assert_eq!((gcs.login, gcs.universe.as_str()), (GcsLogin::Default, "googleapis.com"));
        let (cache, _) =
            read("Type = \"azure\"\n[azure]\nAccountName = \"a\"\nContainerName = \"c\"");
        let Bucket::Azure(azure) = cache.unwrap().bucket else { panic!() };
        assert_eq!((azure.key, azure.domain.as_str()), (None, "blob.core.windows.net"));
    }

    #[test]
    fn a_cache_that_cannot_be_used_is_a_warning_and_no_cache() {
        assert_eq!(read(""), (None, Vec::new()));
        for (text, key) in [
            ("Type = \"ftp\"", "cache.Type"),
            ("Type = \"s3\"", "cache.s3.BucketName"),
            ("Type = \"gcs\"", "cache.gcs.BucketName"),
            ("Type = \"gcs\"\n[gcs]\nBucketName = \"b\"\nAccessID = \"x\"", "cache.gcs"),
            ("Type = \"azure\"\n[azure]\nAccountName = \"a\"", "cache.azure.ContainerName"),
        ] {
            let (cache, said) = read(text);
            assert!(cache.is_none() && said[0].starts_with(key), "{text}: {said:?}");
        }
    }
}
