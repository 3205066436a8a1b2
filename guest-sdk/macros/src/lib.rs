//! `#[freewheel_guest::main]`: what a declarative macro cannot be written as. Use it through `freewheel-guest`.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Makes an `async fn main` the program's `main`: it runs on the guest's one thread, and whatever it spawns
/// runs beside it. It may return whatever any `main` may.
#[proc_macro_attribute]
pub fn main(_: TokenStream, item: TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = item.into_iter().collect();
    match returned(&tokens) {
        Ok(output) => {
            let inner: TokenStream = tokens.iter().cloned().collect();
            format!(
                "fn main() {output} {{ {inner} ::freewheel_guest::__internal::block_on(main()) }}"
            )
            .parse()
            .unwrap_or_else(|_| refuse("the function cannot be read"))
        }
        Err(why) => refuse(why),
    }
}

/// What follows the arguments of `async fn main()`: `-> TYPE`, or nothing.
fn returned(tokens: &[TokenTree]) -> Result<TokenStream, &'static str> {
    let is = |token: &TokenTree, word: &str| matches!(token, TokenTree::Ident(i) if i.to_string() == word);
    let function = tokens.iter().position(|token| is(token, "fn")).ok_or("this is no function")?;
    if !tokens[..function].iter().any(|token| is(token, "async")) {
        return Err("`main` has to be an `async fn`; a plain `fn main` needs no macro");
    }
    if !tokens.get(function + 1).is_some_and(|name| is(name, "main")) {
        return Err("the function has to be called `main`");
    }
    match tokens.get(function + 2) {
        Some(TokenTree::Group(arguments))
            if arguments.delimiter() == Delimiter::Parenthesis && arguments.stream().is_empty() => {
        }
        _ => return Err("`main` takes no arguments: use `std::env::args`"),
    }
    let body = tokens.len() - 1;
    Ok(tokens[function + 3..body].iter().cloned().collect())
}

fn refuse(why: &str) -> TokenStream {
    format!("compile_error!({why:?});").parse().unwrap_or_default()
}
