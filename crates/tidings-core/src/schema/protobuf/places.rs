//! Places: which message of a schema the message index of a record means.
//!
//! Owns: both ways in which serializers count, and which of them a schema is to be read by (decision 41). A `map` or a `group`, also one of `extend`,
//! stands for a message that nobody has declared: a compiled file has it among the others, and so has the text that Confluent's registry makes of one; a text that
//! somebody has written does not. Refuses to give such a message out: no record is one. Neighbour: `protobuf` reads the index.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto};
use prost_reflect::{ExtensionDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// All messages, in the order of a compiled file.
    All,
    /// What is declared as a message.
    Declared,
}

impl Counting {
    /// How the messages of a text are counted by those that it was made for.
    pub(super) fn of_text(file: &FileDescriptorProto) -> Self {
        // No compiler takes it from people: who writes this has made the text of a compiled file.
        if file.message_type.iter().any(declares_entries) { Self::All } else { Self::Declared }
    }

    fn other(self) -> Self {
        match self {
            Self::All => Self::Declared,
            Self::Declared => Self::All,
        }
    }
}

fn declares_entries(message: &DescriptorProto) -> bool {
    let options = message.options.iter().flat_map(|options| &options.uninterpreted_option);
    let is_entry = |name: &str| name == "map_entry";
    let mut names = options.filter_map(|option| option.name.first());
    names.any(|part| is_entry(&part.name_part)) || message.nested_type.iter().any(declares_entries)
}

/// A message, and what it is called.
pub(super) type Named = (MessageDescriptor, Arc<str>);

/// The messages of a schema by their place: the number of the message, then that of the one within, and so on.
#[derive(Debug)]
pub(super) struct Places(HashMap<Vec<u32>, Named>);

impl Places {
    /// Where nobody is by this way of counting, who is there by the other one is meant: some serializers count by that.
    pub(super) fn of(file: &FileDescriptor, counting: Counting) -> Self {
        let mut found = HashMap::new();
        for counting in [counting, counting.other()] {
            let groups = file
                .extensions()
                .filter(ExtensionDescriptor::is_group)
                .filter_map(|extension| called(&extension.kind()))
                .collect();
            note(file.messages(), (counting, &groups), &mut Vec::new(), &mut found);
        }
        Self(found)
    }

    pub(super) fn get(&self, place: &[u32]) -> Option<&Named> {
        self.0.get(place)
    }
}

fn note(
    messages: impl Iterator<Item = MessageDescriptor>,
    (counting, groups): (Counting, &HashSet<String>),
    place: &mut Vec<u32>,
    found: &mut HashMap<Vec<u32>, Named>,
) {
    let mut number = 0;
    for message in messages {
        let is_declared = !message.is_map_entry() && !groups.contains(message.full_name());
        if !is_declared && counting == Counting::Declared {
            continue;
        }
        place.push(number);
        number += 1;
        if is_declared {
            found.entry(place.clone()).or_insert_with(|| (message.clone(), message.full_name().into()));
        }
        let fields = message.fields().filter(FieldDescriptor::is_group).filter_map(|field| called(&field.kind()));
        let extensions = message.child_extensions().filter(ExtensionDescriptor::is_group);
        let extensions = extensions.filter_map(|extension| called(&extension.kind()));
        let groups = fields.chain(extensions).collect();
        note(message.child_messages(), (counting, &groups), place, found);
        place.pop();
    }
}

/// What the message of a group is called, of a field or an extension. It stands beside that.
fn called(group: &Kind) -> Option<String> {
    group.as_message().map(|message| message.full_name().to_owned())
}
