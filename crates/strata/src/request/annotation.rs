//! Annotations: `--annotation [PLACE[PLATFORM]:]NAME=VALUE` of `docker buildx`, and the keys
//! `annotation[-PLACE][PLATFORM].NAME` of `-o`.

use strata_build::{Annotation, AnnotationPlace, Annotations};
use strata_oci::Platform;

use crate::failure::Failure;

const PLACES: [(&str, AnnotationPlace); 4] = [
    ("manifest", AnnotationPlace::Manifest),
    ("index", AnnotationPlace::Index),
    ("manifest-descriptor", AnnotationPlace::ManifestDescriptor),
    ("index-descriptor", AnnotationPlace::IndexDescriptor),
];

fn place(text: &str) -> Option<AnnotationPlace> {
    PLACES.iter().find(|(name, _)| *name == text).map(|(_, place)| *place)
}

/// `manifest` or `manifest[linux/amd64]`; None when it is neither.
fn place_and_platform(text: &str) -> Option<Result<(AnnotationPlace, Option<Platform>), Failure>> {
    let (name, platform) = match text.split_once('[') {
        Some((name, rest)) => (name, Some(rest.strip_suffix(']')?)),
        None => (text, None),
    };
    let place = place(name)?;
    let platform = platform
        .map(|text| text.parse::<Platform>().map_err(|error| Failure::usage(error.to_string())));
    Some(platform.transpose().map(|platform| (place, platform)))
}

/// All `--annotation`s.
pub(crate) fn of_flags(texts: &[String]) -> Result<Annotations, Failure> {
    let mut annotations = Annotations::default();
    for text in texts {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Failure::usage(format!("`--annotation {text}`: `NAME=VALUE` is expected")));
        };
        // A name may have colons of its own.
        let mut places = Vec::new();
        let mut name = key;
        if let Some((prefix, rest)) = key.split_once(':') {
            let parsed: Option<Vec<_>> = prefix.split(',').map(place_and_platform).collect();
            if let Some(parsed) = parsed {
                name = rest;
                places = parsed.into_iter().collect::<Result<_, _>>()?;
            }
        }
        if name.is_empty() {
            return Err(Failure::usage(format!("`--annotation {text}`: the name is missing")));
        }
        if places.is_empty() {
            places.push((AnnotationPlace::Manifest, None));
        }
        annotations.0.extend(places.into_iter().map(|(place, platform)| Annotation {
            place,
            platform,
            name: name.to_owned(),
            value: value.to_owned(),
        }));
    }
    Ok(annotations)
}

/// A key of `-o`, if it is an annotation's.
pub(crate) fn of_output(key: &str, value: &str) -> Result<Option<Annotation>, Failure> {
    let Some(rest) = key.strip_prefix("annotation") else { return Ok(None) };
    let (place, name) = match rest.split_once('.') {
        Some((place, name)) if !name.is_empty() => (place, name),
        _ => return Ok(None),
    };
    let place = match place.strip_prefix('-') {
        Some(place) => place.to_owned(),
        None => format!("manifest{place}"),
    };
    let Some(found) = place_and_platform(&place) else {
        return Err(Failure::usage(format!("`{key}` is no place for an annotation"))
            .hint("there are `manifest`, `index`, `manifest-descriptor`, `index-descriptor`"));
    };
    let (place, platform) = found?;
    Ok(Some(Annotation { place, platform, name: name.to_owned(), value: value.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_keys_say_where_an_annotation_stands() {
        let check = |text: &str, expected: &[(AnnotationPlace, Option<&str>, &str, &str)]| {
            let found = of_flags(&[text.to_owned()]).expect(text).0;
            let found: Vec<_> = found
                .iter()
                .map(|one| {
                    let platform = one.platform.as_ref().map(Platform::to_string);
                    (one.place, platform, one.name.clone(), one.value.clone())
                })
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(place, platform, name, value)| {
                    let platform = platform.map(str::to_owned);
                    (*place, platform, (*name).to_owned(), (*value).to_owned())
                })
                .collect();
            assert_eq!(found, expected, "{text}");
        };
        use AnnotationPlace::{Index, Manifest, ManifestDescriptor};
        check("a=b", &[(Manifest, None, "a", "b")]);
        check("a:b=c", &[(Manifest, None, "a:b", "c")]);
        check("index:a=b=c", &[(Index, None, "a", "b=c")]);
        check("index,manifest:a=b", &[(Index, None, "a", "b"), (Manifest, None, "a", "b")]);
        check(
            "manifest-descriptor[linux/arm64]:a=",
            &[(ManifestDescriptor, Some("linux/arm64"), "a", "")],
        );
        assert!(of_flags(&["a".to_owned()]).is_err());
        let key = of_output("annotation-index.org.x", "v").expect("fine").expect("one");
        assert_eq!((key.place, key.name.as_str()), (Index, "org.x"));
        let key = of_output("annotation[linux/amd64].x", "v").expect("fine").expect("one");
        assert_eq!(key.platform.expect("one").to_string(), "linux/amd64");
        assert_eq!(of_output("annotations", "v").expect("none"), None);
        assert!(of_output("annotation-x.y", "v").is_err());
    }
}
